select array(select name from unnest($1) as wanted (name) where to_regclass(quote_ident(name)) is null)
