//! What a cycle knows so far, shared with whoever ends it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use crate::state::runs::{History, Run};

/// What a cycle knows so far, so that it can be reported whatever ends it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What the run row and the summary say.
    pub run: Run,
    /// Whether the database was reached, so that a failure leaves a run row.
    pub reached_database: bool,
    /// What an operator should be notified of.
    pub findings: Findings,
    /// The cycles before this one; absent when the database was not reached.
    pub history: Option<History>,
}

/// What an operator should be notified of, beside the counters.
#[derive(Debug, Default, Clone)]
pub struct Findings {
    /// Rejected entries: reference, and field and rule of each fault.
    pub rejected: Vec<(String, Vec<String>)>,
    /// References of entries that are dropped.
    pub dropped: Vec<String>,
    /// Entries dated after DataPass' clock.
    pub future: u64,
    /// The oldest validation time of a rejected entry.
    pub oldest_rejected: Option<DateTime<Utc>>,
}

/// The outcome, shared with whoever ends the cycle.
#[derive(Debug, Clone)]
pub struct SharedOutcome(Arc<Mutex<Outcome>>);

impl SharedOutcome {
    /// Starts the outcome of a cycle that begins now.
    pub fn start(run: Run) -> Self {
        Self(Arc::new(Mutex::new(Outcome {
            run,
            reached_database: false,
            findings: Findings::default(),
            history: None,
        })))
    }

    /// Gives access; a panic elsewhere leaves the counters as they were.
    pub fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
