//! The runs table: one row a cycle that reached the database, failed ones too.

use std::time::Instant;

use chrono::{DateTime, Utc};
use postgres::types::Type;
use serde::Serialize;
use serde_json::{Value, json};

use crate::db::tables::RUNS;
use crate::db::transaction::{Tx, not_written, read_time};
use crate::error::{Failure, Result};
use crate::process::run_id;
use crate::state::summary::Summary;
use crate::types::time;

const RECORD_RUN: &str = include_str!("../../sql/record_run.sql");
const PRUNE_RUNS: &str = include_str!("../../sql/prune_runs.sql");
const HISTORY: &str = include_str!("../../sql/history.sql");
const RECENT_RUNS: &str = include_str!("../../sql/recent_runs.sql");

/// A run: what its row and its summary say.
#[derive(Debug, Clone)]
pub struct Run {
    /// When it began.
    pub started: Instant,
    /// The counters so far.
    pub summary: Summary,
    /// How rows are enqueued, once that is known: `good_job` or `none`.
    pub enqueue: Option<&'static str>,
}

impl Run {
    /// Starts a run now.
    pub fn start(summary: Summary) -> Self {
        Self {
            started: Instant::now(),
            summary: Summary { run_id: run_id::current(), ..summary },
            enqueue: None,
        }
    }
}

/// What is known of the cycles so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// When the last cycle that succeeded began.
    pub last_success: Option<DateTime<Utc>>,
    /// How many demandes it listed.
    pub last_seen: Option<u64>,
    /// When the first cycle began.
    pub first_started_at: Option<DateTime<Utc>>,
    /// Why the last cycle failed, as the word of its reason.
    pub last_reason: Option<String>,
    /// Whether a success of the last two days listed entries of the definition.
    pub had_entries: bool,
}

/// Reads what is known of the cycles so far.
pub fn history(tx: &mut Tx<'_>) -> Result<History> {
    let mut rows = tx.rows("read the last runs", HISTORY, &[], |row| {
        let last_seen: Option<i64> = row.try_get(1)?;
        Ok(History {
            last_success: read_time(row, 0)?,
            last_seen: last_seen.and_then(|seen| seen.try_into().ok()),
            first_started_at: read_time(row, 2)?,
            last_reason: row.try_get(3)?,
            had_entries: row.try_get(4)?,
        })
    })?;
    Ok(rows.pop().unwrap_or_default())
}

/// Records a run. `kind` is `cycle`, or what an operator did.
///
/// A success also prunes the runs older than 400 days, where the role may: a failed cycle writes
/// nothing but its own row, and no cycle fails for want of a privilege that only tidies up.
pub fn record(tx: &mut Tx<'_>, kind: &str, run: &Run, failure: Option<&Failure>) -> Result<()> {
    let summary = Summary {
        reason: failure.map(|failure| failure.reason),
        duration_ms: run.started.elapsed().as_millis() as u64,
        ..run.summary.clone()
    };
    let mut row = summary.fields();
    for (column, value) in [
        ("kind", Some(kind)),
        ("stage", failure.map(|failure| failure.stage.as_str())),
        ("enqueue", run.enqueue),
        ("version", Some(env!("CARGO_PKG_VERSION"))),
    ] {
        row.insert(column.to_owned(), json!(value));
    }
    // The table keeps microseconds, as the watermark's does.
    let Summary { since, watermark_before, watermark, .. } = summary;
    for (column, time) in
        [("since", since), ("watermark_before", watermark_before), ("watermark", watermark)]
    {
        row.insert(column.to_owned(), json!(time));
    }
    let row = [(&Value::Object(row) as _, Type::JSONB)];
    let mut recorded =
        tx.rows("record the run", RECORD_RUN, &row, |row| row.try_get("may_prune"))?;
    if recorded.pop().ok_or_else(|| not_written(RUNS))? && failure.is_none() {
        tx.execute("prune the runs", PRUNE_RUNS, &[])?;
    }
    Ok(())
}

/// One of the last runs, as an operator sees it: its JSON has the names of the table's columns.
#[derive(Debug, Serialize)]
pub struct RecentRun {
    /// Its id; none for a run of a version that recorded none.
    pub run_id: Option<String>,
    /// `cycle`, or what an operator did.
    pub kind: String,
    /// When it began.
    #[serde(serialize_with = "time::serialize")]
    pub started_at: Option<DateTime<Utc>>,
    /// `success`, `permanent` or `transient`.
    pub outcome: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// The step in which it failed.
    pub stage: Option<String>,
    /// Rows inserted.
    pub created: i64,
    /// Those of them that should have been known before.
    pub late: i64,
    /// Entries that failed validation.
    pub rejected: i64,
    /// Entries from before `skip_before` that were never handled.
    pub skipped: i64,
    /// Listed entries that are handled and have no row.
    pub deleted: i64,
    /// Wall time.
    pub duration_ms: i64,
}

/// Reads the last runs of any kind, the last one first.
pub fn recent(tx: &mut Tx<'_>) -> Result<Vec<RecentRun>> {
    tx.rows("read the last runs", RECENT_RUNS, &[], |row| {
        Ok(RecentRun {
            run_id: row.try_get(0)?,
            kind: row.try_get(1)?,
            started_at: read_time(row, 2)?,
            outcome: row.try_get(3)?,
            reason: row.try_get(4)?,
            stage: row.try_get(5)?,
            created: row.try_get(6)?,
            late: row.try_get(7)?,
            rejected: row.try_get(8)?,
            skipped: row.try_get(9)?,
            deleted: row.try_get(10)?,
            duration_ms: row.try_get(11)?,
        })
    })
}
