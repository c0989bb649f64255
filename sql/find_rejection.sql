-- The entries that an id may mean: $1 is the reference of the demande with that number, $2 the id.
select ref, closed_at is not null as is_closed, accepted_at::timestamptz, accepted_reason
  from datapass_pull_rejections
 where ref in ($1, $2)
    or datapass_authorization_id = $2
 order by ref
