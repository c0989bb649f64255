-- What was rejected and has neither passed nor left the listing: it is tried again whatever its time.
SELECT ref, accepted_at IS NOT NULL AS accepted
  FROM datapass_pull_rejections
 WHERE closed_at IS NULL
