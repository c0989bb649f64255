-- The table that rows go to, which depends on the search path
select format('%I.%I', schema.nspname, requests.relname)
  from pg_catalog.pg_class requests
  join pg_catalog.pg_namespace schema
    on schema.oid = requests.relnamespace
 where requests.oid = to_regclass('proactivite_requests')
