delete from datapass_pull_runs
 where started_at < now() - interval '400 days'
