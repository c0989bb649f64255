-- What has neither passed nor left the listing is tried again whatever its time. A person's decision
-- outlives that: it holds when the entry comes back as it was.
SELECT ref, accepted_at IS NOT NULL AS accepted, last_validated_at::timestamptz,
       closed_at IS NOT NULL AS closed
  FROM datapass_pull_rejections
 WHERE closed_at IS NULL
    OR accepted_at IS NOT NULL
