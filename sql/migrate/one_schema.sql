-- From here to the end of the transaction, names mean the schema that new tables go to.
select current_schema()::text, set_config('search_path', quote_ident(current_schema()), true)
