select started_at::timestamptz, outcome, reason, stage, created::bigint, rejected::bigint,
       late::bigint, skipped::bigint, deleted::bigint, duration_ms::bigint
  from datapass_pull_runs
 where kind = 'cycle'
 order by id desc
 limit 10
