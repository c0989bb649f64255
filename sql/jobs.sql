-- The row that GoodJob itself writes for perform_later, for each record of $1. GoodJob requires that
-- the id equals the Active Job id. The job has class $2, queue $3 and priority $5; its only argument is
-- the record's GlobalID in the application $4, or the record's id if $4 is null.
-- Random ids are sorted before they are assigned, so that jobs of the same priority and time have the
-- order of their records in indexes that contain the id, and indexes grow at their end.
-- The common part of all jobs is built once. With null, `locale` and `timezone` are the application's
-- own; Active Job's priority is null for a class that sets none.
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
