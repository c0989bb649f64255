-- The entries that an id may mean: $1 is the reference of the demande with that number, $2 the id.
SELECT ref, closed_at IS NOT NULL AS closed, accepted_at::timestamptz, accepted_reason
  FROM datapass_pull_rejections
 WHERE ref IN ($1, $2)
    OR datapass_authorization_id = $2
 ORDER BY ref
