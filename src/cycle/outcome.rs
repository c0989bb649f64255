//! What a cycle knows so far, shared with whoever ends it.

use chrono::{DateTime, Utc};

use super::filter::{Class, Decisions};
use crate::process::lock::Lock;
use crate::state::runs::{History, Run};
use crate::state::watermark::Watermark;

/// What a cycle knows so far, so that it can be reported whatever ends it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What the run row and the summary say.
    pub run: Run,
    /// Whether the database was reached, so that a failure leaves a run row.
    pub reached_database: bool,
    /// What this will be when the COMMIT that was sent, or is about to be, is done.
    pub committing: Option<Box<Outcome>>,
    /// What becomes of each entry; empty until the transaction.
    pub decisions: Decisions,
    /// How many entries are dated after DataPass' clock.
    pub future: usize,
    /// Whether rows are created without jobs because there is no table for them.
    pub lacks_job_table: bool,
    /// The cycles before this one; absent when the database was not reached.
    pub history: Option<History>,
}

impl Outcome {
    /// Starts the outcome of a cycle that begins now.
    pub fn start(run: Run) -> Self {
        Self {
            run,
            reached_database: false,
            committing: None,
            decisions: Decisions::default(),
            future: 0,
            lacks_job_table: false,
            history: None,
        }
    }

    /// Notes where the watermark was found, and from when on entries are considered.
    pub fn note_watermark(&mut self, since: Option<DateTime<Utc>>, found: &Watermark) {
        let summary = &mut self.run.summary;
        summary.since = since.or(found.skip_before);
        summary.watermark_before = found.time;
        summary.watermark = found.time;
    }

    /// Adds what the transaction of a cycle does.
    pub fn add(&mut self, decisions: Decisions) {
        let summary = &mut self.run.summary;
        let of = |class| decisions.of(class).count() as u64;
        summary.created = of(Class::Created);
        summary.existing = of(Class::Existing);
        summary.rejected = of(Class::Rejected);
        summary.accepted = of(Class::Accepted);
        summary.skipped = of(Class::Skipped);
        summary.matched = summary.created + summary.existing + summary.rejected + summary.accepted;
        summary.late = decisions.those(|it| it.is_late).count() as u64;
        summary.deleted = decisions.those(|it| it.is_deleted).count() as u64;
        summary.revalidated = decisions.those(|it| it.is_revalidated).count() as u64;
        self.decisions = decisions;
    }
}

/// The outcome, shared with whoever ends the cycle.
pub type SharedOutcome = Lock<Outcome>;
