-- The number of handled entries that have no row now
select count(*)
  from datapass_pull_handled as handled
 where not exists (select from proactivite_requests as requests
                    where requests.datapass_authorization_id = handled.datapass_authorization_id)
