SELECT datapass_authorization_id::text, last_validated_at::timestamptz
  FROM proactivite_requests
 WHERE datapass_authorization_id = ANY ($1)
