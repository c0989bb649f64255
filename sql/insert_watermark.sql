-- Only needed if the row that `migrate` created was deleted.
insert into datapass_pull_watermarks (id, created_at, updated_at)
values (1, now(), now())
    on conflict (id) do nothing
