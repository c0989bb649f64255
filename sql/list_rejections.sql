-- Rejections that are not closed, oldest validation first
select ref, demande_id::bigint, datapass_authorization_id, reasons, last_validated_at::timestamptz,
       first_seen_at::timestamptz, last_seen_at::timestamptz, times_seen::bigint,
       accepted_at::timestamptz, accepted_reason, closed_at is not null as is_closed
  from datapass_pull_rejections
 where closed_at is null
 order by last_validated_at nulls last, ref
