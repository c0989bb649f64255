-- The beginning of a statement: the tables that a cycle needs, and those in the search path.
--
-- A kind is the type of a new column, with the pg_type names of the accepted types. `bigint` is for
-- ids of DataPass, `count` for numbers that also fit an integer for a long time. A `timestamp` column
-- of Rails is retyped if its kind is `instant`, and kept if it is `rails_instant`.
with recursive kinds (kind, sql_type, takes) as (values
    ('text', 'text', array['text', 'varchar', 'bpchar', 'citext']),
    ('texts', 'text[]', array['_text', '_varchar', '_bpchar']),
    ('bigint', 'bigint', array['int8']),
    ('count', 'bigint', array['int8', 'int4']),
    ('integer', 'integer', array['int4', 'int8']),
    ('boolean', 'boolean', array['bool']),
    ('date', 'date', array['date', 'timestamp', 'timestamptz']),
    ('instant', 'timestamptz', array['timestamptz', 'timestamp']),
    ('rails_instant', 'timestamptz', array['timestamptz', 'timestamp']),
    ('uuid', 'uuid', array['uuid'])
),
-- `key` is the column that must have a unique index of its own; `is_updated`: a cycle updates rows.
wanted_tables (position, name, key, is_updated) as (values
    (1, 'proactivite_requests', 'datapass_authorization_id', false),
    (2, 'datapass_pull_handled', 'datapass_authorization_id', true),
    (3, 'datapass_pull_watermarks', 'id', true),
    (4, 'datapass_pull_rejections', 'ref', true),
    (5, 'datapass_pull_runs', 'id', false),
    (6, 'good_jobs', 'id', false)
),
-- `is_nullable`: a cycle may write null; `max_chars` is the length of the longest value.
wanted_columns (table_name, name, kind, is_nullable, default_value, max_chars) as (values
    ('proactivite_requests', 'id', 'count', false, null, null),
    ('proactivite_requests', 'datapass_authorization_id', 'text', false, null, 200),
    ('proactivite_requests', 'datapass_demande_id', 'bigint', false, null, null),
    ('proactivite_requests', 'siret', 'text', false, null, 14),
    ('proactivite_requests', 'scholarship_level', 'text', false, null, 4),
    ('proactivite_requests', 'entity_type', 'text', true, null, 11),
    ('proactivite_requests', 'code_insee_entity', 'text', true, null, 5),
    ('proactivite_requests', 'code_insee_communes', 'texts', false, null, 5),
    ('proactivite_requests', 'transmission_date', 'date', true, null, null),
    ('proactivite_requests', 'last_validated_at', 'instant', true, null, null),
    ('proactivite_requests', 'status', 'text', false, '''pending''', 7),
    ('proactivite_requests', 'created_at', 'rails_instant', false, 'now()', null),
    ('proactivite_requests', 'updated_at', 'rails_instant', false, 'now()', null),
    ('datapass_pull_handled', 'datapass_authorization_id', 'text', false, null, 200),
    ('datapass_pull_handled', 'last_validated_at', 'instant', true, null, null),
    ('datapass_pull_handled', 'handled_at', 'instant', false, 'now()', null),
    ('datapass_pull_watermarks', 'id', 'integer', false, '1', null),
    ('datapass_pull_watermarks', 'definition_id', 'text', true, null, 200),
    ('datapass_pull_watermarks', 'last_validated_at', 'instant', true, null, null),
    ('datapass_pull_watermarks', 'skip_before', 'instant', true, null, null),
    ('datapass_pull_watermarks', 'created_at', 'instant', false, 'now()', null),
    ('datapass_pull_watermarks', 'updated_at', 'instant', false, 'now()', null),
    ('datapass_pull_rejections', 'id', 'count', false, null, null),
    ('datapass_pull_rejections', 'ref', 'text', false, null, 200),
    ('datapass_pull_rejections', 'demande_id', 'bigint', true, null, null),
    ('datapass_pull_rejections', 'datapass_authorization_id', 'text', true, null, 200),
    ('datapass_pull_rejections', 'reasons', 'texts', false, '''{}''', 100),
    ('datapass_pull_rejections', 'last_validated_at', 'instant', true, null, null),
    ('datapass_pull_rejections', 'first_seen_at', 'instant', false, 'now()', null),
    ('datapass_pull_rejections', 'last_seen_at', 'instant', false, 'now()', null),
    ('datapass_pull_rejections', 'times_seen', 'count', false, '1', null),
    ('datapass_pull_rejections', 'accepted_at', 'instant', true, null, null),
    ('datapass_pull_rejections', 'accepted_reason', 'text', true, null, null),
    ('datapass_pull_rejections', 'closed_at', 'instant', true, null, null),
    ('datapass_pull_runs', 'id', 'count', false, null, null),
    ('datapass_pull_runs', 'run_id', 'uuid', true, null, null),
    ('datapass_pull_runs', 'kind', 'text', false, '''cycle''', 24),
    ('datapass_pull_runs', 'outcome', 'text', true, null, 24),
    ('datapass_pull_runs', 'reason', 'text', true, null, 24),
    ('datapass_pull_runs', 'stage', 'text', true, null, 24),
    ('datapass_pull_runs', 'pages', 'count', false, '0', null),
    ('datapass_pull_runs', 'seen', 'count', false, '0', null),
    ('datapass_pull_runs', 'matched', 'count', false, '0', null),
    ('datapass_pull_runs', 'created', 'count', false, '0', null),
    ('datapass_pull_runs', 'late', 'count', false, '0', null),
    ('datapass_pull_runs', 'existing', 'count', false, '0', null),
    ('datapass_pull_runs', 'deleted', 'count', false, '0', null),
    ('datapass_pull_runs', 'revalidated', 'count', false, '0', null),
    ('datapass_pull_runs', 'rejected', 'count', false, '0', null),
    ('datapass_pull_runs', 'accepted', 'count', false, '0', null),
    ('datapass_pull_runs', 'skipped', 'count', false, '0', null),
    ('datapass_pull_runs', 'enqueued', 'count', false, '0', null),
    ('datapass_pull_runs', 'drift_rewinds', 'count', false, '0', null),
    ('datapass_pull_runs', 'since', 'instant', true, null, null),
    ('datapass_pull_runs', 'watermark_before', 'instant', true, null, null),
    ('datapass_pull_runs', 'watermark', 'instant', true, null, null),
    ('datapass_pull_runs', 'duration_ms', 'count', false, '0', null),
    ('datapass_pull_runs', 'dry_run', 'boolean', false, 'false', null),
    ('datapass_pull_runs', 'enqueue', 'text', true, null, 24),
    ('datapass_pull_runs', 'started_at', 'instant', false, 'now()', null),
    ('datapass_pull_runs', 'version', 'text', true, null, 24)
),
found as (
    select c.oid, c.relkind, w.*, quote_ident(n.nspname) as schema
    from wanted_tables w
    join pg_class c on c.oid = to_regclass(quote_ident(w.name))
    join pg_namespace n on n.oid = c.relnamespace
),
-- The type of a column; if it is a domain, also its base type, recursively
layers as (
    select a.attrelid, a.attnum, a.atttypid as type, a.atttypmod as typmod,
           a.attnotnull as not_null, a.atthasdef or a.attidentity <> '' as has_default,
           false as is_checked
    from pg_attribute a
    join found on found.oid = a.attrelid
    where a.attnum > 0 and not a.attisdropped
    union all
    select layer.attrelid, layer.attnum, domain.typbasetype, domain.typtypmod,
           layer.not_null or domain.typnotnull,
           layer.has_default or domain.typdefault is not null,
           layer.is_checked or exists (select from pg_constraint
                                       where contypid = domain.oid and contype = 'c')
    from layers layer
    join pg_type domain on domain.oid = layer.type and domain.typtype = 'd'
),
-- Types by their names in pg_type, which do not depend on settings
columns as (
    select layer.attrelid, layer.attnum, a.attname as name, t.typname as type,
           format_type(a.atttypid, a.atttypmod) as shown_type,
           case when t.typname in ('varchar', 'bpchar', '_varchar', '_bpchar') and typmod > 4
                then typmod - 4 end as max_chars,
           layer.not_null, layer.has_default, layer.is_checked,
           a.attgenerated <> '' as is_generated, a.attidentity = 'a' as is_identity
    from layers layer
    join pg_type t on t.oid = layer.type and t.typtype <> 'd'
    join pg_attribute a on a.attrelid = layer.attrelid and a.attnum = layer.attnum
),
-- The columns of a unique index, null for an expression, and whether `on conflict` can use it. It
-- cannot use a deferrable constraint, which the server reports only at run time.
unique_indexes as (
    select i.indrelid, i.indexrelid::regclass as name,
           array(select (select a.attname::text from pg_attribute a
                         where a.attrelid = i.indrelid and a.attnum = i.indkey[k] and a.attnum > 0)
                 from generate_series(0, i.indnkeyatts - 1) as k) as columns,
           i.indisvalid and i.indimmediate and i.indpred is null as is_arbiter
    from pg_index i
    join found on found.oid = i.indrelid
    where i.indisunique
),
-- Whether the key of the table of requests has the name that older applications use
old_id as (
    select exists (select from found join columns c on c.attrelid = found.oid
                   where found.name = 'proactivite_requests' and c.name = 'external_request_id')
               as is_found,
           exists (select from found join columns c on c.attrelid = found.oid
                   where found.name = 'proactivite_requests'
                     and c.name = 'datapass_authorization_id') as is_renamed
)
