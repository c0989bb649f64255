-- Ids follow the order of validation: the default of `id` is evaluated after the sort. Rows that
-- another transaction inserted since the lookup are skipped, and not returned.
insert into proactivite_requests
       (datapass_authorization_id, datapass_demande_id, siret, scholarship_level, entity_type,
        code_insee_entity, code_insee_communes, transmission_date, last_validated_at, status,
        created_at, updated_at)
select datapass_authorization_id, datapass_demande_id, siret, scholarship_level, entity_type,
       code_insee_entity, code_insee_communes, transmission_date, last_validated_at, 'pending',
       now(), now()
  from rows from (jsonb_to_recordset($1) as
                  (datapass_authorization_id text, datapass_demande_id bigint, siret text,
                   scholarship_level text, entity_type text, code_insee_entity text,
                   code_insee_communes text[], transmission_date date,
                   last_validated_at timestamptz))
       with ordinality
 order by ordinality
    on conflict (datapass_authorization_id) do nothing
returning id::bigint
