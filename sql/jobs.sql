-- The row that GoodJob's own enqueue writes for perform_later, for each of the records $1; GoodJob
-- runs the job whose id is its Active Job id. The job is of class $2 in queue $3, and its one
-- argument is the record's GlobalID, which begins with $4, or without $4 the bare id.
-- Random ids are sorted before they are dealt out: jobs of one priority and time then stand in the
-- order of their records, in the indexes that go on with the id too, and indexes grow at their end.
-- What all jobs have in common is made once. `locale` and `timezone` null let the application use its own.
SELECT job.id, job.id AS active_job_id, $2::text AS job_class, $3::text AS queue_name,
       0 AS priority,
       (SELECT jsonb_build_object(
         'job_class', $2::text, 'provider_job_id', NULL, 'queue_name', $3::text, 'priority', NULL,
         'executions', 0, 'exception_executions', '{}'::jsonb, 'locale', NULL, 'timezone', NULL,
         'enqueued_at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))
       || jsonb_build_object(
         'job_id', job.id, 'arguments', jsonb_build_array(
           CASE WHEN $4::text IS NULL THEN to_jsonb(job.record)
                ELSE jsonb_build_object('_aj_globalid', $4::text || job.record) END))
         AS serialized_params,
       now() AS scheduled_at, now() AS created_at, now() AS updated_at,
       true AS is_discrete, 0 AS executions_count
  FROM unnest($1::bigint[],
              ARRAY(SELECT gen_random_uuid() FROM unnest($1::bigint[]) ORDER BY 1))
       AS job (record, id)
