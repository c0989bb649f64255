-- The table that rows go to: the search path may lead elsewhere than expected.
select format('%I.%I', schema.nspname, requests.relname)
  from pg_catalog.pg_class requests
  join pg_catalog.pg_namespace schema
    on schema.oid = requests.relnamespace
 where requests.oid = to_regclass('proactivite_requests')
