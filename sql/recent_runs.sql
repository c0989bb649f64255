SELECT started_at::timestamptz, outcome, reason, stage, created, rejected, missing, dropped,
       duration_ms
  FROM datapass_pull_runs
 WHERE kind = 'cycle'
 ORDER BY started_at DESC, id DESC
 LIMIT 10
