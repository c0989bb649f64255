-- Whether a row has its id only in the column with the older name. It uses JSON, since either column
-- may not exist.
select (select count(*) = 2 from pg_attribute
        where attrelid = 'proactivite_requests'::regclass and not attisdropped
          and attname in ('datapass_authorization_id', 'external_request_id'))
   and exists (select from proactivite_requests r
               where to_jsonb(r) ->> 'datapass_authorization_id' is null
                 and to_jsonb(r) ->> 'external_request_id' is not null)
