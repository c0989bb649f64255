-- One migration at a time in a database, until the transaction ends: the number spells "datapass".
set local statement_timeout = '60s';
select pg_advisory_xact_lock(x'6461746170617373'::bigint);

-- A rename or a retype locks the table against everybody: rather give up than make a busy
-- application wait behind us. Times are converted in UTC, and existing objects are no news.
set local lock_timeout = '5s';
set local idle_in_transaction_session_timeout = '60s';
set local timezone = 'UTC';
set local client_min_messages = warning;

-- To compile the query of the catalog takes longer than to run it.
set local jit = off;
