-- The end of a statement that catalog/wanted.sql begins: the statements that existing tables need, in
-- order; whether a statement renames or retypes a column, and advice about values that are not unique.
, numbered as (
    select *, row_number() over () as number from wanted_columns
),
-- Whether the key of the table of requests must be renamed, and its index with it
rename as (
    select is_found and not is_renamed as is_due, is_found from old_id
),
column_steps as (
    select t.position, 1 as rank, w.number, s.rank as part, s.sql, s.is_guarded, null as advice
    from found t
    join numbered w on w.table_name = t.name
    join kinds k using (kind)
    cross join rename
    left join columns c on c.attrelid = t.oid and c.name = w.name
    cross join lateral (
        select format('ALTER TABLE %s ALTER COLUMN %s', t.name, w.name) as alter,
               t.name = 'proactivite_requests' as is_requests) as x
    -- Without a default a new column must be nullable, since there may be rows. NOT NULL and defaults
    -- of the application's own table are not changed.
    cross join lateral (values
        (c.name is null, 1, false, format('ALTER TABLE %s ADD COLUMN %s %s', t.name, w.name,
            case when w.default_value is not null
                 then format('%s NOT NULL DEFAULT %s', k.sql_type, w.default_value)
                 when w.name = 'id' then 'bigserial'
                 else k.sql_type end)),
        (w.kind = 'instant' and c.type = 'timestamp', 2, true, format(
            '%s TYPE timestamptz USING %s AT TIME ZONE ''UTC''', x.alter, w.name)),
        (w.kind in ('bigint', 'count', 'integer') and c.type in ('int2', 'int4', 'int8')
         and c.type <> k.takes[1], 2, true, format('%s TYPE %s', x.alter, k.sql_type)),
        (not x.is_requests and w.is_nullable and c.not_null, 3, false,
         format('%s DROP NOT NULL', x.alter)),
        (not x.is_requests and w.default_value is not null and not c.has_default, 4, false,
         format('%s SET DEFAULT %s', x.alter, w.default_value))
    ) as s (applies, rank, is_guarded, sql)
    where s.applies and not (rename.is_due and x.is_requests and w.name = t.key)
),
-- The names that Rails gives to the unique indexes, and whether such indexes exist
index_names as (
    select t.*, i.column_name, i.index_name,
           exists (select from pg_index
                   where indrelid = t.oid and indexrelid = to_regclass(quote_ident(i.index_name)))
               as is_taken,
           exists (select from unique_indexes u
                   where u.indrelid = t.oid and u.is_arbiter and u.columns = array[i.column_name])
               as is_covered
    from found t
    cross join unnest(array[t.key, 'external_request_id']) as k (column_name)
    cross join lateral (
        select k.column_name, format('index_%s_on_%s', t.name, k.column_name) as index_name) as i
),
steps as (
    select t.position, 0 as rank, 0 as number, 0 as part, format(
               'ALTER TABLE %s RENAME COLUMN external_request_id TO %s', t.name, t.key) as sql,
           true as is_guarded, null as advice
    from found t
    cross join rename
    where t.name = 'proactivite_requests' and rename.is_due
    union all
    select * from column_steps
    union all
    select new.position, 2, 0, 0, format(
               'CREATE UNIQUE INDEX %sON %s (%s)',
               case when not new.is_taken then new.index_name || ' ' end, new.name, new.key),
           false, format(
               'values of %1$s.%2$s occur more than once; find them with `SELECT %2$s, count(*) FROM '
               '%1$s GROUP BY 1 HAVING count(*) > 1`', new.name, new.key)
    from index_names new
    join index_names old on old.oid = new.oid and old.column_name = 'external_request_id'
    cross join rename
    where new.column_name = new.key and not new.is_covered and not (rename.is_due and old.is_covered)
    union all
    select new.position, 2, 0, 0, format(
               'ALTER INDEX %s RENAME TO %s', old.index_name, new.index_name), false, null
    from index_names new
    join index_names old on old.oid = new.oid and old.column_name = 'external_request_id'
    cross join rename
    where new.column_name = new.key and old.is_taken and not new.is_taken
      and (rename.is_due and old.is_covered or not rename.is_found and new.is_covered)
    union all
    -- Entries validated before the watermark were handled before this column existed.
    select t.position, 3, 0, 0,
           'UPDATE datapass_pull_watermarks SET skip_before = last_validated_at', false, null
    from found t
    where t.name = 'datapass_pull_watermarks'
      and not exists (select from columns c where c.attrelid = t.oid and c.name = 'skip_before')
    union all
    -- A table created by Rails may have another id, and several rows.
    select t.position, 4, 0, s.part, s.sql, false,
           'datapass_pull_watermarks has several rows and can have only one: delete the others'
    from found t
    cross join (values
        (0, 'UPDATE datapass_pull_watermarks SET id = 1'),
        (1, 'ALTER TABLE datapass_pull_watermarks ADD CONSTRAINT datapass_pull_watermarks_one_row '
            'CHECK (id = 1)')) as s (part, sql)
    where t.name = 'datapass_pull_watermarks'
      and not exists (
          select from pg_constraint
          where conrelid = t.oid and contype = 'c'
            and replace(pg_get_constraintdef(oid), '"', '') like 'CHECK ((id = 1))%')
)
select sql, is_guarded, advice
from steps
where position < 6
order by position, rank, number, part
