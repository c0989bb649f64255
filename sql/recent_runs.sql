-- In the order in which they were recorded, which does not depend on a client's clock
select run_id::text, kind, started_at::timestamptz, outcome, reason, stage, created::bigint,
       late::bigint, rejected::bigint, skipped::bigint, deleted::bigint, duration_ms::bigint
  from datapass_pull_runs
 order by id desc
 limit 10
