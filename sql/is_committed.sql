select exists (select 1 from datapass_pull_runs where run_id = $1 and outcome = 'success')
