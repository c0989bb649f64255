-- Only needed where the row that `migrate` made was lost.
insert into datapass_pull_watermarks (id, created_at, updated_at)
values (1, now(), now())
    on conflict (id) do nothing
