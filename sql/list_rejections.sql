SELECT ref, demande_id::bigint, datapass_authorization_id, reasons, last_validated_at::timestamptz,
       first_seen_at::timestamptz, last_seen_at::timestamptz, times_seen::bigint,
       accepted_at::timestamptz, accepted_reason
  FROM datapass_pull_rejections
 WHERE closed_at IS NULL
 ORDER BY last_validated_at NULLS LAST, ref
