-- Serializes concurrent cycles; lock_timeout limits the wait.
select definition_id::text, last_validated_at::timestamptz, skip_before::timestamptz,
       updated_at::timestamptz
  from datapass_pull_watermarks
 where id = 1
   for update
