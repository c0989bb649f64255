-- Cycles that overlap take turns here; the wait is bounded by lock_timeout.
SELECT definition_id::text, last_validated_at::timestamptz
  FROM datapass_pull_watermarks
 WHERE id = 1
   FOR UPDATE
