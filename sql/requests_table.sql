-- The table that rows go to: the search path may lead elsewhere than a person thinks.
SELECT format('%I.%I', schema.nspname, requests.relname)
  FROM pg_catalog.pg_class requests
  JOIN pg_catalog.pg_namespace schema
    ON schema.oid = requests.relnamespace
 WHERE requests.oid = to_regclass('proactivite_requests')
