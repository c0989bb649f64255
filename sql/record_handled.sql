-- The time never decreases: an overtaken cycle may have listed an older validation.
insert into datapass_pull_handled as known (datapass_authorization_id, last_validated_at, handled_at)
select authorization_id, validated_at, now()
  from unnest($1::text[], $2::timestamptz[]) as entry (authorization_id, validated_at)
    on conflict (datapass_authorization_id) do update
   set last_validated_at = greatest(known.last_validated_at, excluded.last_validated_at)
