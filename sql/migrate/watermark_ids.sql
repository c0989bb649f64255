-- How many rows there are, and how many have the id that the one row must have. As JSON, since
-- the column may be still to come.
select count(*), count(*) filter (where to_jsonb(w) ->> 'id' = '1') from datapass_pull_watermarks w
