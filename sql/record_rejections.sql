-- Each row is changed once. $2 are the references whose acceptance is valid; for the others, an
-- acceptance of another validation is removed. An overtaken cycle may have listed an older validation
-- than the recorded one, and then changes nothing.
insert into datapass_pull_rejections as known
       (ref, demande_id, datapass_authorization_id, reasons, last_validated_at,
        first_seen_at, last_seen_at, times_seen)
select distinct on (ref)
       ref, demande_id, datapass_authorization_id, reasons, last_validated_at, now(), now(), 1
  from jsonb_to_recordset($1) as listed
       (ref text, demande_id bigint, datapass_authorization_id text, reasons text[],
        last_validated_at timestamptz)
    on conflict (ref) do update
   set demande_id = excluded.demande_id,
       datapass_authorization_id = excluded.datapass_authorization_id,
       reasons = excluded.reasons,
       last_validated_at = excluded.last_validated_at,
       last_seen_at = now(),
       times_seen = known.times_seen + 1,
       accepted_at = case when known.ref = any ($2) then known.accepted_at end,
       accepted_reason = case when known.ref = any ($2) then known.accepted_reason end,
       closed_at = null
 where excluded.last_validated_at is null
    or known.last_validated_at is null
    or excluded.last_validated_at >= known.last_validated_at
