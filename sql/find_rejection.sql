-- By reference first, then by public id; an open one before a closed one.
SELECT ref, closed_at IS NOT NULL AS closed
  FROM datapass_pull_rejections
 WHERE ref = $1
    OR datapass_authorization_id = $2
 ORDER BY closed_at IS NOT NULL, ref <> $1
 LIMIT 1
