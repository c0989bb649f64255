SELECT started_at::timestamptz, outcome, reason, stage, created::bigint, rejected::bigint,
       missing::bigint, dropped::bigint, duration_ms::bigint
  FROM datapass_pull_runs
 WHERE kind = 'cycle'
 ORDER BY started_at DESC, id DESC
 LIMIT 10
