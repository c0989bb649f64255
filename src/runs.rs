//! The runs table: one row a cycle that reached the database, failed ones too.

use chrono::{DateTime, Utc};
use postgres::types::Type;

use crate::cycle::Account;
use crate::error::Failure;
use crate::jobs::Queue;
use crate::logging;
use crate::store::{self, Param, Tx, TxError};

const RECORD_RUN: &str = include_str!("../sql/record_run.sql");
const PRUNE_RUNS: &str = include_str!("../sql/prune_runs.sql");
const HISTORY: &str = include_str!("../sql/history.sql");

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
    let success = store::instant(row, 0);
    Ok(History {
        last_success: success.map(|started_at| LastSuccess {
            started_at,
            seen: row.get(1),
            missing: row.get(2),
        }),
        first_started_at: store::instant(row, 3),
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
    account: &Account,
    failure: Option<&Failure>,
) -> Result<(), TxError> {
    let summary = &account.summary;
    let counters = summary
        .counters()
        .map(|(_, count)| i64::try_from(count).unwrap_or(i64::MAX));
    let run_id = logging::run_id();
    let outcome = failure.map_or("success", |failure| failure.kind().as_str());
    let reason = failure.map(|failure| failure.reason.as_str());
    let stage = failure.map(|failure| failure.stage.as_str());
    let duration_ms = i64::try_from(account.started.elapsed().as_millis()).unwrap_or(i64::MAX);
    let queue = account.queue.as_ref().map(Queue::as_str);
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
        (&queue, Type::TEXT),
        (&account.started_at, Type::TIMESTAMPTZ),
        (&env!("CARGO_PKG_VERSION"), Type::TEXT),
    ]);
    let recorded = tx.rows("record the run", RECORD_RUN, &params)?;
    let may_prune = recorded.first().is_some_and(|row| row.get("may_prune"));
    if may_prune && failure.is_none() {
        tx.execute("prune the runs", PRUNE_RUNS, &[])?;
    }
    Ok(())
}
