-- From here to the end of the transaction, names mean the schema that new tables go to, if there is
-- one.
select current_schema() is not null, set_config('search_path', quote_ident(current_schema()), true)
