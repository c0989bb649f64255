-- Until the end of the transaction, names refer to the schema in which new tables are created, if there
-- is one.
select current_schema() is not null, set_config('search_path', quote_ident(current_schema()), true)
