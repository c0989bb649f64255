-- Closes rejections whose entries passed or left the listing. If another cycle recorded one meanwhile,
-- its `times_seen` is greater than this cycle read at its start, and it stays open.
update datapass_pull_rejections as known
   set closed_at = now()
  from unnest($1::text[], $2::bigint[]) as passed (ref, times_seen)
 where known.ref = passed.ref
   and known.times_seen = passed.times_seen
   and known.closed_at is null
