-- Only one migration per database at a time, until the transaction ends; the number spells "datapass".
set local statement_timeout = '60s';
set local lock_timeout = 0;
select pg_advisory_xact_lock(x'6461746170617373'::bigint);

-- A rename or a retype needs an exclusive lock: it gives up soon, so that a busy application does not
-- queue behind it. Times are converted in UTC; notices about existing objects are suppressed.
set local lock_timeout = '5s';
set local idle_in_transaction_session_timeout = '60s';
set local timezone = 'UTC';
set local client_min_messages = warning;

-- JIT compilation of the catalog query takes longer than the query.
set local jit = off;
