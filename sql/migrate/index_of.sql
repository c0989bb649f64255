-- Whether a table has an index of that name.
select exists (
    select from pg_index
    where indrelid = to_regclass(quote_ident($1)) and indexrelid = to_regclass(quote_ident($2))
)
