-- Read under the watermark's lock, so that no other cycle changes them; `rejected accept` may wait.
SELECT ref, accepted_at IS NOT NULL AS accepted, last_validated_at
  FROM datapass_pull_rejections
 WHERE ref = ANY ($1)
   FOR UPDATE
