-- The public ids of $1 that have or had a row
select datapass_authorization_id::text, last_validated_at::timestamptz
  from datapass_pull_handled
 where datapass_authorization_id = any ($1)
