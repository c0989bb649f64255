-- The public ids of $1 that have a row
select datapass_authorization_id::text, last_validated_at::timestamptz
  from proactivite_requests
 where datapass_authorization_id = any ($1)
