-- Whether a row has its id in the column of the older name alone.
select exists (
    select from proactivite_requests
    where datapass_authorization_id is null and external_request_id is not null
)
