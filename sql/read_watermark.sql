SELECT definition_id::text, last_validated_at::timestamptz
  FROM datapass_pull_watermarks
 WHERE id = 1
