-- The shape of good_jobs, as the search path finds it; no row when there is no such table.
SELECT attname::text,
       attnotnull AND NOT atthasdef AND attidentity = '' AS must_be_filled
  FROM pg_catalog.pg_attribute
 WHERE attrelid = to_regclass('good_jobs')
   AND attnum > 0
   AND NOT attisdropped
