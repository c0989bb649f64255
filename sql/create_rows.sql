-- Ids follow the order of validation: the default of `id` is taken after the sort. What another
-- transaction inserted since the lookup is skipped, and not returned.
-- Commune codes come as the text of an array, since unnest would flatten an array of arrays.
insert into proactivite_requests
       (datapass_authorization_id, datapass_demande_id, siret, scholarship_level, entity_type,
        code_insee_entity, code_insee_communes, transmission_date, last_validated_at, status,
        created_at, updated_at)
select authorization_id, demande_id, siret, level, entity_type, entity, communes::text[],
       transmission_date, validated_at, 'pending', now(), now()
  from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],
              $7::text[], $8::date[], $9::timestamptz[])
       with ordinality
       as entry (authorization_id, demande_id, siret, level, entity_type, entity, communes,
                 transmission_date, validated_at, position)
 order by position
    on conflict (datapass_authorization_id) do nothing
returning id::bigint
