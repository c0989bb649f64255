-- What alerts compare with: when a cycle last succeeded, and how many entries it then missed.
SELECT started_at, missing
  FROM datapass_pull_runs
 WHERE outcome = 'success' AND kind = 'cycle'
 ORDER BY started_at DESC
 LIMIT 1
