-- The sequences behind columns' defaults that this role may not use. One of an identity column
-- needs no right.
select d.adrelid::bigint as oid, s.oid::regclass::text as sequence
from pg_attrdef d
join pg_depend p on p.classid = 'pg_attrdef'::regclass and p.objid = d.oid
    and p.refclassid = 'pg_class'::regclass
join pg_class s on s.oid = p.refobjid and s.relkind = 'S'
where d.adrelid = any ($1::bigint[]::oid[]) and not has_sequence_privilege(s.oid, 'USAGE, UPDATE')
