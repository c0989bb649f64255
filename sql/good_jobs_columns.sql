-- The columns of the table with oid $1, and the role's privileges on them. 8 is the bit of INSERT,
-- which a view may not support.
SELECT attname::text,
       attnotnull AND NOT atthasdef AND attidentity = '' AS must_be_filled,
       has_column_privilege(attrelid, attnum, 'INSERT') AS may_be_filled,
       pg_relation_is_updatable(attrelid, true) & 8 <> 0 AS takes_inserts
  FROM pg_catalog.pg_attribute
 WHERE attrelid = $1::oid
   AND attnum > 0
   AND NOT attisdropped
