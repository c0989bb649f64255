-- Rejections that are not closed, and accepted ones: an acceptance is kept when its rejection is
-- closed, and is valid again when the entry returns with the same validation.
select ref, accepted_at is not null as is_accepted, last_validated_at::timestamptz,
       closed_at is not null as is_closed, times_seen::bigint
  from datapass_pull_rejections
 where closed_at is null
    or accepted_at is not null
