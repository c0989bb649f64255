-- The first good_jobs in the schemas of the setting search_path, its columns, and what the role may do
-- with it. PostgreSQL itself ignores a schema without USAGE privilege, but then the privilege is missing,
-- not the table. An item is a quoted name, or an unquoted one in any case; "$user" is the schema named
-- like the role.
-- `others` is a table of requests in that schema that is not the table that rows go to. 8 is the bit of
-- INSERT, which a view may not support.
SELECT format('%I.good_jobs', schema.nspname), quote_ident(schema.nspname),
       has_schema_privilege(schema.oid, 'USAGE') AS may_be_entered,
       (SELECT format('%I.%I', schema.nspname, requests.relname)
          FROM pg_catalog.pg_class requests
         WHERE requests.relnamespace = schema.oid
           AND requests.relname = 'proactivite_requests'
           AND requests.relkind IN ('r', 'p')
           AND requests.oid <> to_regclass('proactivite_requests')) AS others,
       columns.names, columns.required, columns.denied,
       pg_relation_is_updatable(jobs.oid, true) & 8 <> 0 AS accepts_inserts
  FROM regexp_matches(current_setting('search_path'), '"((?:[^"]|"")*)"|([^",[:space:]]+)', 'g')
       WITH ORDINALITY AS item (words, position)
 CROSS JOIN LATERAL coalesce(replace(words[1], '""', '"'), lower(words[2])) AS name
  JOIN pg_catalog.pg_namespace schema
    ON schema.nspname = CASE name WHEN '$user' THEN current_user ELSE name::name END
  JOIN pg_catalog.pg_class jobs
    ON jobs.relnamespace = schema.oid
   AND jobs.relname = 'good_jobs'
 CROSS JOIN LATERAL (
       SELECT coalesce(array_agg(attname::text), '{}') AS names,
              coalesce(array_agg(attname::text)
                         FILTER (WHERE attnotnull AND NOT atthasdef AND attidentity = ''), '{}')
                AS required,
              coalesce(array_agg(attname::text)
                         FILTER (WHERE NOT has_column_privilege(attrelid, attnum, 'INSERT')), '{}')
                AS denied
         FROM pg_catalog.pg_attribute
        WHERE attrelid = jobs.oid
          AND attnum > 0
          AND NOT attisdropped
       ) AS columns
 ORDER BY position
 LIMIT 1
