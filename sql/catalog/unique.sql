-- The columns that a unique index covers alone, such that `on conflict` can use it.
select i.indrelid::bigint as oid, a.attname::text as column
from pg_index i
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
where i.indrelid = any ($1::bigint[]::oid[])
  and i.indisunique
  and i.indisvalid
  and i.indimmediate
  and i.indnkeyatts = 1
  and i.indpred is null
  and i.indexprs is null
