//! The runs table: one row a cycle that reached the database, failed ones too.

use std::time::Instant;

use chrono::{DateTime, Utc};
use postgres::types::Type;

use crate::db::transaction::{self, Param, Tx, TxError};
use crate::error::Failure;
use crate::process::run_id;
use crate::state::summary::Summary;

const RECORD_RUN: &str = include_str!("../../sql/record_run.sql");
const PRUNE_RUNS: &str = include_str!("../../sql/prune_runs.sql");
const HISTORY: &str = include_str!("../../sql/history.sql");

/// A run: what its row and its summary say.
#[derive(Debug, Clone)]
pub struct Run {
    /// When it began, for its duration.
    pub started: Instant,
    /// When it began, for its row.
    pub started_at: DateTime<Utc>,
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
            started_at: Utc::now(),
            summary,
            enqueue: None,
        }
    }
}

/// The last cycle that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSuccess {
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How many demandes it listed.
    pub seen: i64,
    /// How many entries it missed.
    pub missing: i64,
}

/// What the table tells about the cycles so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The last cycle that succeeded.
    pub last_success: Option<LastSuccess>,
    /// When the first cycle began.
    pub first_started_at: Option<DateTime<Utc>>,
    /// Why the last cycle failed, as the word of its reason.
    pub last_reason: Option<String>,
}

/// Reads what is known of the cycles so far.
pub fn history(tx: &mut Tx<'_>) -> Result<History, TxError> {
    let rows = tx.rows("read the last runs", HISTORY, &[])?;
    let Some(row) = rows.first() else {
        return Ok(History::default());
    };
    let success = transaction::instant(row, 0);
    Ok(History {
        last_success: success.map(|started_at| LastSuccess {
            started_at,
            seen: row.get(1),
            missing: row.get(2),
        }),
        first_started_at: transaction::instant(row, 3),
        last_reason: row.get(4),
    })
}

/// Records a run. `kind` is `cycle`, or what a person did.
///
/// A success also prunes the runs older than 400 days, where the role may: a failed cycle writes
/// nothing but its own row, and no cycle fails for want of a right that only tidies up.
pub fn record(
    tx: &mut Tx<'_>,
    kind: &str,
    run: &Run,
    failure: Option<&Failure>,
) -> Result<(), TxError> {
    let summary = &run.summary;
    let counters = summary
        .counters()
        .map(|(_, count)| i64::try_from(count).unwrap_or(i64::MAX));
    let run_id = run_id::current();
    let outcome = failure.map_or("success", |failure| failure.kind().as_str());
    let reason = failure.map(|failure| failure.reason.as_str());
    let stage = failure.map(|failure| failure.stage.as_str());
    let duration_ms = i64::try_from(run.started.elapsed().as_millis()).unwrap_or(i64::MAX);
    let mut params: Vec<Param<'_>> = vec![
        (&run_id, Type::UUID),
        (&kind, Type::TEXT),
        (&outcome, Type::TEXT),
        (&reason, Type::TEXT),
        (&stage, Type::TEXT),
    ];
    params.extend(counters.iter().map(|count| (count as _, Type::INT8)));
    params.extend::<[Param<'_>; 7]>([
        (&summary.since, Type::TIMESTAMPTZ),
        (&summary.watermark_before, Type::TIMESTAMPTZ),
        (&summary.watermark, Type::TIMESTAMPTZ),
        (&duration_ms, Type::INT8),
        (&run.enqueue, Type::TEXT),
        (&run.started_at, Type::TIMESTAMPTZ),
        (&env!("CARGO_PKG_VERSION"), Type::TEXT),
    ]);
    let recorded = tx.rows("record the run", RECORD_RUN, &params)?;
    let may_prune = recorded.first().is_some_and(|row| row.get("may_prune"));
    if may_prune && failure.is_none() {
        tx.execute("prune the runs", PRUNE_RUNS, &[])?;
    }
    Ok(())
}
