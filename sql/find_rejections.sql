-- The entries that an id may refer to: $1 is the reference of the demande with that number, $2 the id.
select ref, demande_id::bigint, datapass_authorization_id, reasons, last_validated_at::timestamptz,
       first_seen_at::timestamptz, last_seen_at::timestamptz, times_seen::bigint,
       accepted_at::timestamptz, accepted_reason, closed_at is not null as is_closed
  from datapass_pull_rejections
 where ref in ($1, $2)
    or datapass_authorization_id = $2
 order by ref
