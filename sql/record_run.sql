-- The start is computed from the database's clock, since the clock of this machine may be wrong. The
-- types are stated, so that the plan shows a column of another type.
insert into datapass_pull_runs
       (run_id, kind, outcome, reason, stage, pages, seen, matched, created, late, existing, deleted,
        revalidated, rejected, accepted, skipped, enqueued, drift_rewinds, since, watermark_before,
        watermark, duration_ms, dry_run, enqueue, version, started_at)
select run_id, kind, outcome, reason, stage, pages, seen, matched, created, late, existing, deleted,
       revalidated, rejected, accepted, skipped, enqueued, drift_rewinds, since, watermark_before,
       watermark, duration_ms, dry_run, enqueue, version, now() - duration_ms * interval '1 ms'
  from jsonb_to_record($1) as run
       (run_id uuid, kind text, outcome text, reason text, stage text, pages bigint, seen bigint,
        matched bigint, created bigint, late bigint, existing bigint, deleted bigint,
        revalidated bigint, rejected bigint, accepted bigint, skipped bigint, enqueued bigint,
        drift_rewinds bigint, since timestamptz, watermark_before timestamptz,
        watermark timestamptz, duration_ms bigint, dry_run boolean, enqueue text, version text)
returning has_table_privilege('datapass_pull_runs', 'DELETE') as may_prune
