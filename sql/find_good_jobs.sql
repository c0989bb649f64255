-- The first good_jobs along the search path as it is set, and not as it works: a schema that the
-- role may not use drops out of the latter, and its good_jobs with it. An item is a name in double
-- quotes or a bare one in any case; "$user" is the schema of the role's name.
-- `others` is a table of requests in that schema, other than the one that rows go to.
SELECT jobs.oid::bigint, format('%I.good_jobs', schema.nspname), quote_ident(schema.nspname),
       has_schema_privilege(schema.oid, 'USAGE') AS may_be_entered,
       (SELECT format('%I.%I', schema.nspname, requests.relname)
          FROM pg_catalog.pg_class requests
         WHERE requests.relnamespace = schema.oid
           AND requests.relname = 'proactivite_requests'
           AND requests.relkind IN ('r', 'p')
           AND requests.oid <> to_regclass('proactivite_requests')) AS others
  FROM regexp_matches(current_setting('search_path'), '"((?:[^"]|"")*)"|([^",[:space:]]+)', 'g')
       WITH ORDINALITY AS item (words, position)
 CROSS JOIN LATERAL coalesce(replace(words[1], '""', '"'), lower(words[2])) AS name
  JOIN pg_catalog.pg_namespace schema
    ON schema.nspname = CASE name WHEN '$user' THEN current_user ELSE name::name END
  JOIN pg_catalog.pg_class jobs
    ON jobs.relnamespace = schema.oid
   AND jobs.relname = 'good_jobs'
 ORDER BY position
 LIMIT 1
