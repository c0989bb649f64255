-- Read under the watermark's lock, which `rejected accept` takes too: no decision can be lost.
SELECT ref, accepted_at IS NOT NULL AS accepted, last_validated_at::timestamptz,
       closed_at IS NOT NULL AS closed
  FROM datapass_pull_rejections
 WHERE ref = ANY ($1)
