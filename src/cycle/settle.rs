//! The end of a cycle: its outcome, and the run row of one that failed, unless its COMMIT was done and
//! only the answer is missing.

use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use postgres::types::Type;

use super::outcome::{Outcome, SharedOutcome};
use super::remarks;
use crate::config::PullConfig;
use crate::db::transaction::{Access, Store, Tx};
use crate::error::{Failure, Result};
use crate::process::deadline::Deadline;
use crate::process::supervise::BestEffort;
use crate::state::{runs, watermark};

const IS_COMMITTED: &str = include_str!("../../sql/is_committed.sql");

/// How long the run row of a failed cycle may take.
const FAILED_RUN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the answer of a COMMIT is looked for: PostgreSQL may restart meanwhile.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(10);

/// Replaces the outcome by what it became with its COMMIT, and logs that.
pub(super) fn conclude(shared: &SharedOutcome) {
    // A copy: until all is logged, which an output that is not read delays, the COMMIT is known.
    let committing = shared.lock().committing.clone();
    if let Some(done) = committing {
        remarks::log(&done);
        *shared.lock() = *done;
    }
}

/// Records the failure of a cycle, as a best effort that does not change how it ended; but a cycle
/// whose COMMIT was done is a success. Nothing is recorded where that remains unknown, so that no run
/// has two rows.
pub fn settle(
    config: &Arc<PullConfig>,
    deadline: &Deadline,
    shared: &SharedOutcome,
    failure: Failure,
) -> Result<()> {
    let outcome = shared.lock().clone();
    if config.dry_run || !outcome.reached_database {
        return Err(failure);
    }
    let limit = match outcome.committing {
        Some(_) => deadline.left().min(COMMITTED_TIMEOUT),
        None => Duration::ZERO,
    };
    let config = Arc::clone(config);
    let cause = Failure::new(failure.stage, failure.reason, "");
    let settled = BestEffort::start(limit.max(FAILED_RUN_TIMEOUT), move |deadline| {
        let store = Store::new(&config.database, deadline, config.max_retries);
        store.transaction(cause.stage, Access::ReadWrite, |tx| {
            let is_committed = outcome.committing.is_some() && is_committed(tx, &outcome)?;
            if !is_committed {
                runs::record(tx, "cycle", &outcome.run, Some(&cause))?;
            }
            Ok(is_committed)
        })
    });
    match settled.and_then(BestEffort::wait) {
        Ok(true) => {
            warn!(stage = failure.stage.as_str();
                "No response to COMMIT, but everything is written: {}", failure.error_chain());
            conclude(shared);
            Ok(())
        }
        Ok(false) => Err(failure),
        Err(error) => {
            debug!("The failed run is not recorded: {}", error.error_chain());
            Err(failure)
        }
    }
}

/// Returns whether the transaction of a run was committed, once it cannot be any more.
fn is_committed(tx: &mut Tx<'_>, outcome: &Outcome) -> Result<bool> {
    // That transaction holds the watermark's lock until it ends.
    tx.undo(|tx| watermark::lock(tx).map(drop))?;
    let run_id = outcome.run.summary.run_id;
    let run_id = [(&run_id as _, Type::UUID)];
    let mut found = tx.rows("look for the run", IS_COMMITTED, &run_id, |row| row.try_get(0))?;
    Ok(found.pop().unwrap_or_default())
}
