-- They passed, or left the listing. One that was recorded since, by a cycle that overtook this one,
-- was seen more often than this cycle read at its start.
update datapass_pull_rejections as known
   set closed_at = now()
  from unnest($1::text[], $2::bigint[]) as passed (ref, times_seen)
 where known.ref = passed.ref
   and known.times_seen = passed.times_seen
   and known.closed_at is null
