UPDATE datapass_pull_watermarks
   SET definition_id = $1, last_validated_at = $2, updated_at = now()
 WHERE id = 1
