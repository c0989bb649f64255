-- The tables that a name means in the search path, and what this role may do with them.
select c.relname::text as name,
       quote_ident(n.nspname) as schema,
       c.oid::bigint as oid,
       array(select right_name
             from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as right_name
             where has_table_privilege(c.oid, right_name)) as rights
from unnest($1) as wanted (name)
join pg_class c on c.oid = to_regclass(quote_ident(wanted.name))
join pg_namespace n on n.oid = c.relnamespace
