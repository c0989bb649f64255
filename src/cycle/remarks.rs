//! What a cycle logs at its end: each reference with `-v`, and warnings of what an operator should
//! look at.

use std::collections::HashSet;

use log::{info, warn};

use super::outcome::{Outcome, first};
use crate::error::Stage;
use crate::output::log::DRY_RUN;
use crate::types::time::shown;

/// How many references a warning names; the counters have them all.
const NAMED_REFERENCES: usize = 10;

/// Logs what a cycle did, once it is committed.
pub(super) fn log(outcome: &Outcome) {
    let (findings, summary) = (&outcome.findings, &outcome.run.summary);
    let stage = Stage::Create.as_str();
    if !summary.dry_run {
        let late: HashSet<&String> = findings.late.iter().collect();
        for reference in &findings.created {
            let late = if late.contains(reference) { ", late" } else { "" };
            info!(stage = stage, reference = reference.as_str(); "Created {reference}{late}");
        }
        if findings.without_job_table > 0 {
            warn!(stage = stage;
                "There is no table good_jobs: {} rows are created without a job, and wait as \
                 pending", findings.without_job_table);
        }
    }
    for reference in &findings.revalidated {
        info!(stage = stage, reference = reference.as_str(); "Validated again: {reference}");
    }
    for reference in &findings.skipped {
        info!(stage = stage, reference = reference.as_str();
            "Skipped {reference}: validated before skip_before");
    }
    for (reference, reasons) in &findings.rejected {
        warn!(stage = stage, reference = reference.as_str();
            "Rejected {reference}: {}; retried every cycle", reasons.join(", "));
    }
    for (what, references) in [
        ("Created late, although older than the watermark", &findings.late),
        (
            "Validated again although their rows are deleted; --since creates them again",
            &findings.revalidated_deleted,
        ),
        ("Not created again, since they are invalid now", &findings.invalid_deleted),
        ("Validated before --since, and left to the next plain cycle", &findings.postponed),
    ] {
        if !references.is_empty() {
            let named = first(references, NAMED_REFERENCES);
            warn!(stage = stage; "{what}: {named} ({} in all)", references.len());
        }
    }
    if findings.future > 0 {
        warn!(stage = stage; "{} entries are dated after DataPass' own clock", findings.future);
    }
    let verb = if summary.dry_run { "would be" } else { "is" };
    let held = match &findings.held_by {
        Some(reference) => format!(", held by {reference}"),
        None => String::new(),
    };
    info!(stage = Stage::Advance.as_str();
        "The watermark was {} and {verb} {}{held}",
        shown(summary.watermark_before), shown(summary.watermark));
}

/// Lists what a dry run would create, at any log level.
pub fn list_created(outcome: &Outcome) {
    for reference in &outcome.findings.created {
        info!(target: DRY_RUN, reference = reference.as_str(); "Would create {reference}");
    }
}
