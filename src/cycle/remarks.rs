//! What a cycle reports about its entries: each reference with `-v`, and warnings of what an operator
//! should look at.

use log::{info, warn};

use super::filter::{Class, Decision};
use super::outcome::Outcome;
use crate::error::Stage;
use crate::output::log::DRY_RUN;
use crate::types::entry::Entry;
use crate::types::time::shown;

/// How many entries a warning names; the counters have them all.
const NAMED_ENTRIES: usize = 10;

/// What an operator should look at.
pub struct Warning<'a> {
    /// What it is about, in one word.
    pub topic: &'static str,
    /// The entry, if it is about a single one.
    pub reference: Option<&'a str>,
    /// One sentence.
    pub message: String,
}

/// Returns what an operator should look at after a cycle.
pub fn warnings(outcome: &Outcome) -> Vec<Warning<'_>> {
    let (decisions, summary) = (&outcome.decisions, &outcome.run.summary);
    let mut warnings = Vec::new();
    let mut warn = |topic, reference, message| {
        warnings.push(Warning { topic, reference, message });
    };
    if outcome.lacks_job_table && summary.created > 0 && !summary.dry_run {
        let created = summary.created;
        let message = format!(
            "There is no table good_jobs: {created} rows are created without a job, and wait as \
             pending"
        );
        warn("jobs", None, message);
    }
    for entry in decisions.of(Class::Rejected) {
        let (reference, reasons) = (&entry.reference, entry.reasons().join(", "));
        let message = format!("Rejected {reference}: {reasons}; retried every cycle");
        warn("rejected", Some(reference.as_str()), message);
    }
    let named = |holds: fn(&Decision) -> bool| -> Vec<String> {
        decisions.those(holds).map(with_reasons).collect()
    };
    let deleted = "Validated again although their rows are deleted; --since creates them again";
    let postponed = "Validated before --since, and left to the next plain cycle";
    for (topic, what, entries) in [
        ("late", "Created late, although older than the watermark", named(|it| it.is_late)),
        ("deleted", deleted, named(|it| it.is_revalidated && it.is_deleted)),
        ("lost", "Not created again, since they are invalid now", named(|it| it.is_lost)),
        ("postponed", postponed, named(|it| it.class == Class::Postponed)),
    ] {
        if !entries.is_empty() {
            let named = entries.get(..NAMED_ENTRIES).unwrap_or(&entries).join(", ");
            warn(topic, None, format!("{what}: {named} ({} in all)", entries.len()));
        }
    }
    if outcome.future > 0 {
        let message = format!("{} entries are dated after DataPass' own clock", outcome.future);
        warn("future", None, message);
    }
    warnings
}

/// Returns the reference of an entry, and why it is invalid if it is.
fn with_reasons(entry: &Entry) -> String {
    match entry.reasons().join(", ").as_str() {
        "" => entry.reference.clone(),
        reasons => format!("{} ({reasons})", entry.reference),
    }
}

/// Logs what a cycle did, once it is committed.
pub(super) fn log(outcome: &Outcome) {
    let (decisions, summary) = (&outcome.decisions, &outcome.run.summary);
    let stage = Stage::Create.as_str();
    if !summary.dry_run {
        let created = decisions.0.iter().filter(|it| it.class == Class::Created);
        for Decision { entry, is_late, .. } in created {
            let (reference, late) =
                (entry.reference.as_str(), if *is_late { ", late" } else { "" });
            info!(stage = stage, reference = reference; "Created {reference}{late}");
        }
    }
    for Entry { reference, .. } in decisions.those(|it| it.is_revalidated) {
        info!(stage = stage, reference = reference.as_str(); "Validated again: {reference}");
    }
    for Entry { reference, .. } in decisions.of(Class::Skipped) {
        info!(stage = stage, reference = reference.as_str();
            "Skipped {reference}: validated before skip_before");
    }
    for Warning { reference, message, .. } in warnings(outcome) {
        warn!(stage = stage, reference = reference; "{message}");
    }
    let verb = if summary.dry_run { "would be" } else { "is" };
    let held = match decisions.waiting() {
        Some(entry) => format!(", held by {}", entry.reference),
        None => String::new(),
    };
    info!(stage = Stage::Advance.as_str();
        "The watermark was {} and {verb} {}{held}",
        shown(summary.watermark_before), shown(summary.watermark));
}

/// Lists what a dry run would create, at any log level.
pub fn list_created(outcome: &Outcome) {
    for Entry { reference, .. } in outcome.decisions.of(Class::Created) {
        info!(target: DRY_RUN, reference = reference.as_str(); "Would create {reference}");
    }
}
