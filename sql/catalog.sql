-- What the tables named in $1 look like along the search path, and what this role may do with them,
-- as one JSON document. Types are compared by their names in pg_type, which no setting quotes.
with recursive found as (
    select c.oid, c.relkind, wanted.name, wanted.position, quote_ident(n.nspname) as schema
    from unnest($1::text[]) with ordinality as wanted (name, position)
    join pg_class c on c.oid = to_regclass(quote_ident(wanted.name))
    join pg_namespace n on n.oid = c.relnamespace
),
-- A column's type, then what that is a domain of, and so on.
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
columns as (
    select layer.attrelid, a.attname as name, t.typname as type,
           format_type(a.atttypid, a.atttypmod) as shown_type,
           case when t.typname in ('varchar', 'bpchar', '_varchar', '_bpchar') and typmod > 4
                then typmod - 4 end as max_chars,
           layer.not_null, layer.has_default, layer.is_checked,
           a.attgenerated <> '' as is_generated, a.attidentity = 'a' as is_identity,
           array(select privilege
                 from unnest(array['SELECT', 'INSERT', 'UPDATE']) as privilege
                 where has_column_privilege(layer.attrelid, layer.attnum, privilege)) as privileges
    from layers layer
    join pg_type t on t.oid = layer.type and t.typtype <> 'd'
    join pg_attribute a on a.attrelid = layer.attrelid and a.attnum = layer.attnum
    order by layer.attrelid, layer.attnum
),
-- The columns that an index covers; null stands for an expression.
indexes as (
    select i.indrelid, i.indexrelid::regclass as name,
           array(select (select a.attname from pg_attribute a
                         where a.attrelid = i.indrelid and a.attnum = i.indkey[k] and a.attnum > 0)
                 from generate_series(0, i.indnkeyatts - 1) as k) as columns,
           i.indisvalid and i.indimmediate and i.indpred is null as is_arbiter
    from pg_index i
    join found on found.oid = i.indrelid
    where i.indisunique
),
policies as (
    select p.polrelid, p.polpermissive, p.polcmd,
           coalesce(pg_get_expr(p.polqual, p.polrelid), 'true') = 'true'
           and coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'true' as lets_all_pass
    from pg_policy p
    where p.polroles && array(select oid from pg_roles where pg_has_role(oid, 'USAGE') union select 0)
),
-- What may refuse a row, keep it out or change it. Triggers of partitions too; 1, 2, 4 and 16 are
-- the bits of a trigger for each row, before it, on insert and on update.
guards as (
    select found.oid, 'trigger' as kind, quote_ident(t.tgname) as name, null as definition,
           t.tgtype & 4 <> 0 as on_insert
    from found
    join pg_trigger t on t.tgrelid = found.oid
                      or t.tgrelid in (select relid from pg_partition_tree(found.oid))
    where not t.tgisinternal and t.tgparentid = 0 and t.tgenabled in ('O', 'A')
      and t.tgtype & 3 = 3 and t.tgtype & 20 <> 0
    union all
    select r.ev_class, case when r.is_instead then 'instead' else 'rule' end, quote_ident(r.rulename),
           null, r.ev_type = '3'
    from pg_rewrite r
    where r.ev_type in ('2', '3') and r.ev_enabled in ('O', 'A')
    union all
    select c.conrelid, 'constraint', quote_ident(c.conname), pg_get_constraintdef(c.oid), true
    from pg_constraint c
    where c.contype in ('c', 'f', 'x') and c.conparentid = 0
)
select jsonb_build_object(
    'role', quote_ident(current_user),
    'version', current_setting('server_version_num')::int,
    'encoding', current_setting('server_encoding'),
    'tables', array(
        select jsonb_build_object(
            'name', found.name, 'schema', found.schema,
            'kind', found.relkind,
            'privileges', array(
                select privilege
                from unnest(array['SELECT', 'INSERT', 'UPDATE']) as privilege
                where has_table_privilege(found.oid, privilege)),
            'columns', array(select to_jsonb(c) from columns c where c.attrelid = found.oid),
            'unique_indexes', array(select to_jsonb(i) from indexes i where i.indrelid = found.oid),
            'guards', array(select to_jsonb(g) from guards g where g.oid = found.oid),
            'hides_rows', row_security_active(found.oid),
            'open_commands', array(
                select polcmd from policies
                where polrelid = found.oid and polpermissive and lets_all_pass
                  and not exists (select from policies
                                  where polrelid = found.oid
                                    and not polpermissive and not lets_all_pass)),
            'forbidden_sequences', array(
                select s.oid::regclass
                from pg_attrdef d
                join pg_depend p on p.classid = 'pg_attrdef'::regclass and p.objid = d.oid
                                and p.refclassid = 'pg_class'::regclass
                join pg_class s on s.oid = p.refobjid
                where d.adrelid = found.oid
                  -- The check fails for a table; an identity column's sequence needs no privilege.
                  and case when s.relkind = 'S'
                           then not has_sequence_privilege(s.oid, 'USAGE, UPDATE') end)
        )
        from found order by position))
