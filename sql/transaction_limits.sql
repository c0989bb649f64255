-- Limits the transaction to the remaining time of the cycle, and makes `timestamp` columns take UTC.
-- A lock is waited for half a minute, since another cycle's transaction takes a fraction of it.
-- A cycle that is suspended between two statements, for instance by a sleeping machine, loses its
-- locks within a minute, since other cycles wait for the watermark.
-- If the server can (PostgreSQL 14 on Linux), it ends a statement within a second after its client is
-- gone; otherwise a backend that waits for a lock would not notice.
-- All settings are local to the transaction, so that a pooled server connection is unchanged.
-- The column `refusal` is why the server accepts no changes.
select set_config('statement_timeout', $1, true),
       set_config('lock_timeout', least($1::integer, 30000)::text, true),
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
