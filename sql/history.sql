-- What the cycles so far tell: when the last one that succeeded began, what it listed and what it
-- missed; when the first one began; why the last one failed. Always one row.
SELECT success.started_at::timestamptz, success.seen::bigint, success.missing::bigint,
       first.started_at::timestamptz, last.reason
  FROM (SELECT min(started_at) AS started_at FROM datapass_pull_runs WHERE kind = 'cycle') AS first
  LEFT JOIN (SELECT started_at, seen, missing
               FROM datapass_pull_runs
              WHERE outcome = 'success' AND kind = 'cycle'
              ORDER BY started_at DESC
              LIMIT 1) AS success ON true
  LEFT JOIN (SELECT reason
               FROM datapass_pull_runs
              WHERE kind = 'cycle'
              ORDER BY started_at DESC, id DESC
              LIMIT 1) AS last ON true
