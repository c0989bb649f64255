-- The start is computed from the database's clock, since the clock of this machine may be wrong.
insert into datapass_pull_runs
       (run_id, kind, outcome, reason, stage, pages, seen, matched, created, late, existing, deleted,
        revalidated, rejected, accepted, skipped, enqueued, drift_rewinds, since, watermark_before,
        watermark, duration_ms, dry_run, enqueue, started_at, version)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
        $21, $22::bigint, false, $23, now() - $22::bigint * interval '1 ms', $24)
returning has_table_privilege('datapass_pull_runs', 'DELETE') as may_prune
