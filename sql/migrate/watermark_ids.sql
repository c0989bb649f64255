-- The ids of the rows, two at most. By JSON, since the column may be missing.
select array(select (to_jsonb(w) ->> 'id')::bigint from datapass_pull_watermarks w limit 2)
