-- The end of a statement that catalog/wanted.sql begins: our tables that do not exist, in the order in
-- which they are created
select array(select name from wanted_tables
             where name <> 'good_jobs' and name not in (select name from found)
             order by position)
