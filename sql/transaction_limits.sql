-- Bounds the transaction by what is left of the cycle, and makes every `timestamp` column take UTC.
-- A run that stands still between two statements, as on a machine that sleeps, loses its locks within
-- a minute: the others wait for the watermark.
-- Local to the transaction, so that a pooled server connection is given back as it was.
SELECT set_config('statement_timeout', $1, true),
       set_config('lock_timeout', $2, true),
       set_config('idle_in_transaction_session_timeout', least($1::integer, 60000)::text, true),
       set_config('TimeZone', 'UTC', true)
