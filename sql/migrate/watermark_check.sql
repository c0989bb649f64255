select exists (
    select from pg_constraint
    where conrelid = 'datapass_pull_watermarks'::regclass
      and contype = 'c'
      and replace(pg_get_constraintdef(oid), '"', '') like 'CHECK ((id = 1))%'
)
