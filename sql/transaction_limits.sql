-- Bounds the transaction by what is left of the cycle, and makes every `timestamp` column take UTC.
-- A run that is stopped between two statements, as on a machine that sleeps, loses its locks within
-- a minute: the others wait for the watermark.
-- Where the server can (PostgreSQL 14 on Linux), a statement under way ends within a second of its
-- client: a back end that waits for a lock would not notice otherwise.
-- Local to the transaction, so that a pooled server connection is given back as it was.
-- The refusal says why the server accepts no changes.
select set_config('statement_timeout', $1, true),
       set_config('lock_timeout', $2, true),
       set_config('idle_in_transaction_session_timeout', least($1::integer, 60000)::text, true),
       set_config('TimeZone', 'UTC', true),
       case when version() like '%linux%'
                 and current_setting('client_connection_check_interval', true) is not null
            then set_config('client_connection_check_interval', '1s', true)
       end,
       case when pg_is_in_recovery()
            then 'it is a standby: a failover may be under way, or DATABASE_URL names a replica'
            when current_setting('default_transaction_read_only') = 'on'
            then 'default_transaction_read_only is on for this server, database or role'
       end as refusal
