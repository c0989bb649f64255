-- The last cycle that succeeded: when it began, what it listed, and what it missed.
SELECT started_at, seen, missing
  FROM datapass_pull_runs
 WHERE outcome = 'success' AND kind = 'cycle'
 ORDER BY started_at DESC
 LIMIT 1
