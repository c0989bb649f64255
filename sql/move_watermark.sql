update datapass_pull_watermarks
   set definition_id = $1, last_validated_at = $2, skip_before = $3, updated_at = now()
 where id = 1
