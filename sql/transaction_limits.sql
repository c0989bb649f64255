-- Bounds the transaction by what is left of the cycle, and makes every `timestamp` column take UTC.
-- Local to the transaction, so that a pooled server connection is given back as it was.
SELECT set_config('statement_timeout', $1, true),
       set_config('lock_timeout', $2, true),
       set_config('idle_in_transaction_session_timeout', $1, true),
       set_config('TimeZone', 'UTC', true)
