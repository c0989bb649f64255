-- An entry that is open loses an acceptance that was given for another validation.
INSERT INTO datapass_pull_rejections AS known
       (ref, demande_id, datapass_authorization_id, reasons, last_validated_at,
        first_seen_at, last_seen_at, times_seen)
SELECT ref, demande_id, datapass_authorization_id, reasons, last_validated_at, now(), now(), 1
  FROM jsonb_to_recordset($1) AS listed
       (ref text, demande_id bigint, datapass_authorization_id text, reasons text[],
        last_validated_at timestamptz, accepted boolean)
    ON CONFLICT (ref) DO UPDATE
   SET demande_id = excluded.demande_id,
       datapass_authorization_id = excluded.datapass_authorization_id,
       reasons = excluded.reasons,
       last_validated_at = excluded.last_validated_at,
       last_seen_at = now(),
       times_seen = known.times_seen + 1,
       accepted_at = CASE WHEN known.ref = ANY ($2) THEN known.accepted_at END,
       accepted_reason = CASE WHEN known.ref = ANY ($2) THEN known.accepted_reason END,
       closed_at = NULL
