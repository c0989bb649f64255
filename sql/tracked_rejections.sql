-- What has neither passed nor left the listing, and what was accepted: an acceptance outlives a
-- closure, and holds when the entry comes back with the same validation.
select ref, accepted_at is not null as is_accepted, last_validated_at::timestamptz,
       closed_at is not null as is_closed, times_seen::bigint
  from datapass_pull_rejections
 where closed_at is null
    or accepted_at is not null
