select a.attrelid::bigint as oid,
       a.attname::text as name,
       format_type(a.atttypid, null) as type,
       a.attnotnull as not_null,
       pg_get_expr(d.adbin, d.adrelid) as default,
       a.attidentity <> '' or a.attgenerated <> '' as generated
from pg_attribute a
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = any ($1::bigint[]::oid[]) and a.attnum > 0 and not a.attisdropped
order by a.attrelid, a.attnum
