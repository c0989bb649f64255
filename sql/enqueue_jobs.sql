-- The row that GoodJob's own enqueue writes for perform_later, for tables without the columns of
-- discrete executions. `locale` null lets the application use its own.
INSERT INTO good_jobs
       (id, active_job_id, job_class, queue_name, priority, serialized_params, scheduled_at,
        created_at, updated_at)
SELECT job.id, job.id, $2, $3, 0,
       jsonb_build_object(
         'job_class', $2::text, 'job_id', job.id::text, 'provider_job_id', NULL,
         'queue_name', $3::text, 'priority', NULL, 'arguments', jsonb_build_array(job.argument),
         'executions', 0, 'exception_executions', '{}'::jsonb, 'locale', NULL, 'timezone', 'UTC',
         'enqueued_at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
       now(), now(), now()
  FROM (SELECT gen_random_uuid() AS id, argument
          FROM jsonb_array_elements($1) WITH ORDINALITY AS created (argument, position)
         ORDER BY position) AS job
