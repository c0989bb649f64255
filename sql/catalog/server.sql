-- The end of a statement that wanted.sql begins: server version, encoding and schemas of the tables
select current_setting('server_version_num')::int / 10000, current_setting('server_encoding'),
       case when count(distinct schema) = 1 then 'in schema ' || min(schema)
            else coalesce(string_agg(schema || '.' || found.name, ', '), '') end
from found
where found.name <> 'good_jobs'
