-- The start is computed from the database's clock, since the clock of this machine may be wrong.
insert into datapass_pull_runs
       (run_id, kind, outcome, reason, stage, pages, seen, matched, created, late, existing, deleted,
        revalidated, rejected, accepted, skipped, enqueued, drift_rewinds, since, watermark_before,
        watermark, duration_ms, dry_run, enqueue, version, started_at)
select run_id, kind, outcome, reason, stage, pages, seen, matched, created, late, existing, deleted,
       revalidated, rejected, accepted, skipped, enqueued, drift_rewinds, since, watermark_before,
       watermark, duration_ms, dry_run, enqueue, version, now() - duration_ms * interval '1 ms'
  from jsonb_populate_record(null::datapass_pull_runs, $1)
returning has_table_privilege('datapass_pull_runs', 'DELETE') as may_prune
