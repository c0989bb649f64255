//! What a committed cycle logs: each reference with `-v`, and what an operator should look at.

use log::{info, warn};

use super::outcome::Outcome;
use crate::error::Stage;
use crate::types::time::shown;

/// How many references a warning names; the counters say how many there are.
const NAMED_REFERENCES: usize = 10;

/// The target of what a dry run would create, which is logged at any level.
pub(super) const DRY_RUN: &str = "datapass_pull::dry_run";

/// Logs what a cycle did, once it is committed.
pub(super) fn log(outcome: &Outcome) {
    let (findings, summary) = (&outcome.findings, &outcome.run.summary);
    let stage = Stage::Create.as_str();
    for reference in &findings.created {
        if summary.dry_run {
            info!(target: DRY_RUN, reference = reference.as_str(); "Would create {reference}");
        } else {
            info!(stage = stage, reference = reference.as_str(); "Created {reference}");
        }
    }
    for reference in &findings.revalidated {
        info!(stage = stage, reference = reference.as_str(); "Validated again: {reference}");
    }
    for reference in &findings.skipped {
        info!(stage = stage, reference = reference.as_str(); "Skipped {reference}");
    }
    for (reference, reasons) in &findings.rejected {
        warn!(stage = stage, reference = reference.as_str();
            "Rejected {reference}: {}; retried every cycle", reasons.join(", "));
    }
    warn_of(
        &findings.late,
        "should have been known before: DataPass showed them late",
    );
    warn_of(
        &findings.revalidated_deleted,
        "were validated again and their rows are deleted: `--since` creates them anew",
    );
    warn_of(
        &findings.postponed,
        "were validated before --since: the next plain cycle creates or rejects them",
    );
    if findings.future > 0 {
        warn!(stage = stage; "{} entries are dated after DataPass' own clock", findings.future);
    }
    let held = match &findings.held_by {
        Some(reference) => format!(", held by {reference}"),
        None => String::new(),
    };
    info!(stage = Stage::Advance.as_str();
        "The watermark was {} and is {}{held}",
        shown(summary.watermark_before), shown(summary.watermark));
}

/// Warns of entries: the first ones by reference, and how many they are.
fn warn_of(references: &[String], what: &str) {
    let Some(named) = references.get(..references.len().min(NAMED_REFERENCES)) else {
        return;
    };
    if !named.is_empty() {
        let more = if named.len() < references.len() {
            ", …"
        } else {
            ""
        };
        warn!(stage = Stage::Create.as_str();
            "{} entries {what} ({}{more})", references.len(), named.join(", "));
    }
}
