-- The sequences behind columns' defaults that this role may not use. One of an identity column
-- needs no right. CASE keeps the check of rights, which fails for a table, behind the test.
select d.adrelid::bigint as oid, s.oid::regclass::text as sequence
from pg_attrdef d
join pg_depend p on p.classid = 'pg_attrdef'::regclass and p.objid = d.oid
    and p.refclassid = 'pg_class'::regclass
join pg_class s on s.oid = p.refobjid
where d.adrelid = any ($1::bigint[]::oid[])
  and case when s.relkind = 'S' then not has_sequence_privilege(s.oid, 'USAGE, UPDATE') end
