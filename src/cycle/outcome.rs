//! What a cycle knows so far, shared with whoever ends it.

use chrono::{DateTime, Utc};

use super::filter::Sorted;
use crate::process::lock::Lock;
use crate::state::runs::{History, Run};
use crate::state::watermark::Watermark;
use crate::types::entry::Listed;

/// What a cycle knows so far, so that it can be reported whatever ends it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What the run row and the summary say.
    pub run: Run,
    /// Whether the database was reached, so that a failure leaves a run row.
    pub reached_database: bool,
    /// What this will be when the COMMIT that was sent, or is about to be, is done.
    pub committing: Option<Box<Outcome>>,
    /// What an operator should be notified of.
    pub findings: Findings,
    /// The cycles before this one; absent when the database was not reached.
    pub history: Option<History>,
}

/// What an operator should be notified of, beside the counters. Entries are named by reference.
#[derive(Debug, Default, Clone)]
pub struct Findings {
    /// Created entries, in the order of creation.
    pub created: Vec<String>,
    /// Those of them that should have been known before.
    pub late: Vec<String>,
    /// How many created entries get no job because there is no table for it.
    pub without_job_table: usize,
    /// Rejected entries, with field and rule of each fault.
    pub rejected: Vec<(String, Vec<String>)>,
    /// Skipped entries.
    pub skipped: Vec<String>,
    /// Entries that were validated again since they were last seen.
    pub revalidated: Vec<String>,
    /// Those of them that have no row any more.
    pub revalidated_deleted: Vec<String>,
    /// Entries of a replay that have no row and are invalid now, with field and rule of each fault.
    pub invalid_deleted: Vec<String>,
    /// Entries outside `--since` that the next plain cycle creates.
    pub postponed: Vec<String>,
    /// Entries dated after DataPass' clock.
    pub future: usize,
    /// The oldest validation time of a rejected entry.
    pub oldest_rejected: Option<DateTime<Utc>>,
    /// What holds the watermark: the oldest entry that still waits, if one does.
    pub held_by: Option<String>,
}

impl Outcome {
    /// Starts the outcome of a cycle that begins now.
    pub fn start(run: Run) -> Self {
        Self {
            run,
            reached_database: false,
            committing: None,
            findings: Findings::default(),
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
    pub fn add(&mut self, sorted: &Sorted<'_>) {
        let summary = &mut self.run.summary;
        let count = |length: usize| length as u64;
        summary.created = count(sorted.created.len());
        summary.existing = count(sorted.existing.len());
        summary.deleted = count(sorted.deleted.len());
        summary.revalidated = count(sorted.revalidated.len());
        summary.rejected = count(sorted.rejected.len());
        summary.accepted = count(sorted.accepted.len());
        summary.skipped = count(sorted.skipped.len());
        summary.matched = summary.created + summary.existing + summary.rejected + summary.accepted;

        let names = |entries: &[&Listed]| entries.iter().map(|it| it.reference.clone()).collect();
        let created: Vec<&Listed> = sorted.created.iter().map(|(entry, _)| *entry).collect();
        // `None` is smaller than any time.
        let is_late = |entry: &&Listed| {
            sorted.scope.since.is_none() && entry.time() < summary.watermark_before
        };
        let late: Vec<&Listed> = created.iter().copied().filter(is_late).collect();
        let rejected = sorted
            .rejected
            .iter()
            .map(|(entry, rejected)| (entry.reference.clone(), rejected.reasons()));
        let invalid = sorted.invalid_deleted.iter().map(|(entry, rejected)| {
            format!("{} ({})", entry.reference, rejected.reasons().join(", "))
        });
        let times = sorted.rejected.iter().filter_map(|(entry, _)| entry.time());
        let waiting = sorted.waiting();
        self.findings = Findings {
            created: names(&created),
            late: names(&late),
            rejected: rejected.collect(),
            skipped: names(&sorted.skipped),
            revalidated: names(&sorted.revalidated),
            revalidated_deleted: names(&sorted.revalidated_deleted),
            invalid_deleted: invalid.collect(),
            postponed: names(&sorted.postponed),
            oldest_rejected: times.min(),
            held_by: waiting.map(|entry| entry.reference.clone()),
            future: self.findings.future,
            without_job_table: self.findings.without_job_table,
        };
        summary.late = count(self.findings.late.len());
    }
}

/// Names the first `limit` references.
pub fn first(references: &[String], limit: usize) -> String {
    references.get(..limit).unwrap_or(references).join(", ")
}

/// The outcome, shared with whoever ends the cycle.
pub type SharedOutcome = Lock<Outcome>;
