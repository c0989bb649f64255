-- The row that GoodJob's own enqueue writes for perform_later, for each of the records $1; GoodJob
-- runs the job whose id is its Active Job id. The job is of class $2 in queue $3 with priority $5, and
-- its one argument is the record's GlobalID in the application $4, or without $4 the bare id.
-- Random ids are sorted before they are assigned: jobs of one priority and time then stand in the
-- order of their records, in the indexes that go on with the id too, and indexes grow at their end.
-- What all jobs have in common is made once. `locale` and `timezone` null let the application use its
-- own; Active Job's priority is null where a class sets none.
select job.id, job.id as active_job_id, $2::text as job_class, $3::text as queue_name,
       $5::integer as priority,
       (select jsonb_build_object(
         'job_class', $2::text, 'provider_job_id', null, 'queue_name', $3::text,
         'priority', nullif($5::integer, 0), 'executions', 0, 'exception_executions', '{}'::jsonb,
         'locale', null, 'timezone', null,
         'enqueued_at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))
       || jsonb_build_object(
         'job_id', job.id, 'arguments', jsonb_build_array(
           case when $4::text is null then to_jsonb(job.record)
                else jsonb_build_object('_aj_globalid',
                  'gid://' || $4::text || '/ProactiviteRequest/' || job.record) end))
         as serialized_params,
       now() as scheduled_at, now() as created_at, now() as updated_at,
       true as is_discrete, 0 as executions_count
  from unnest($1::bigint[],
              array(select gen_random_uuid() from unnest($1::bigint[]) order by 1))
       as job (record, id)
