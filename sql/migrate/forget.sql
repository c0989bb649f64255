delete from datapass_pull_migrations where version = any ($1)
