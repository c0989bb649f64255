INSERT INTO datapass_pull_runs
       (run_id, kind, outcome, reason, stage, pages, seen, matched, created, existing, revalidated,
        rejected, accepted, dropped, enqueued, missing, drift_rewinds, since, watermark_before,
        watermark, duration_ms, dry_run, enqueue, started_at, version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
        $21, false, $22, $23, $24)
RETURNING has_table_privilege('datapass_pull_runs', 'DELETE') AS may_prune
