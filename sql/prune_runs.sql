DELETE FROM datapass_pull_runs
 WHERE started_at < now() - interval '400 days'
