SELECT has_table_privilege(to_regclass('good_jobs'), 'INSERT')
