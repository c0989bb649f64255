//! `status`: watermark, recent runs, rejected entries and deleted rows, as text or as JSON.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::transact;
use crate::config::{JobConfig, Settings};
use crate::cycle::enqueue;
use crate::db::transaction::{Access, Tx};
use crate::error::{Reason, Result};
use crate::output::columns;
use crate::output::stdout::Answer;
use crate::state::rejections::{self, Rejection, State};
use crate::state::runs::{self, RecentRun};
use crate::state::watermark;
use crate::types::time::rfc3339;

const REQUESTS_TABLE: &str = include_str!("../../sql/requests_table.sql");
const DELETED: &str = include_str!("../../sql/deleted_rows.sql");

/// How many open entries the text names; `rejected list` has them all.
const NAMED_ENTRIES: usize = 10;

/// Reads the tables.
pub fn run(settings: Settings) -> Result<Answer> {
    let (database, job) = settings.load(|it| it.database().zip(it.job()))?;
    transact(&database, Access::ReadOnly, move |tx| read(tx, &job))
}

fn read(tx: &mut Tx<'_>, job: &JobConfig) -> Result<Answer> {
    let table: Option<String> =
        tx.rows("find the table", REQUESTS_TABLE, &[], |row| row.try_get(0))?.pop();
    let deleted = tx.rows("count the deleted rows", DELETED, &[], |row| row.try_get(0))?.pop();
    let deleted: i64 = deleted.unwrap_or_default();
    let (enqueue, jobs) = queue(tx, job)?;
    let watermark = watermark::read(tx)?;
    let last_success = runs::history(tx)?.last_success;
    let runs = runs::recent(tx)?;
    let rejections = rejections::list(tx)?;
    let (open, accepted): (Vec<&Rejection>, Vec<&Rejection>) =
        rejections.iter().partition(|it| it.state == State::Open);
    // The oldest one holds the watermark, unless it is dated after what that has reached. `None` is
    // smaller than any time.
    let holder = open.iter().find(|it| it.last_validated_at.is_some());
    let holder = holder.filter(|it| it.last_validated_at <= watermark.time);
    let held_since = holder.and_then(|it| it.first_seen_at.max(watermark.updated_at));
    let json = json!({
        "definition_id": watermark.definition_id,
        "watermark": watermark.time.map(rfc3339),
        "watermark_age_seconds": watermark.time.map(|time| (Utc::now() - time).num_seconds()),
        "held_by": holder.map(|it| &it.reference),
        "held_since": held_since.map(rfc3339),
        "skip_before": watermark.skip_before.map(rfc3339),
        "last_success": last_success.map(rfc3339),
        "deleted": deleted,
        "rejected": open.len(),
        "accepted": accepted.len(),
        "rejections": rejections,
        "table": table,
        "enqueue": enqueue,
        "enqueue_detail": jobs,
        "runs": runs,
    });
    let none = || "none".to_owned();
    let mut fields = vec![
        ("definition", watermark.definition_id.unwrap_or_else(none)),
        ("watermark", since(watermark.time)),
    ];
    if let Some(holder) = holder {
        fields.push(("held by", holder.reference.clone()));
        fields.push(("held since", since(held_since)));
    }
    fields.extend([
        ("skip before", since(watermark.skip_before)),
        ("last success", since(last_success)),
        ("deleted", format!("{deleted} handled entries have no row")),
        ("rows go to", table.unwrap_or_else(none)),
        ("jobs go to", jobs),
        ("rejected", format!("{} open, {} accepted", open.len(), accepted.len())),
    ]);
    let text = columns::fields(&fields) + &open_text(&open) + &runs_text(&runs);
    Ok(Answer { text, json: Some(json) })
}

/// Returns how a cycle would enqueue jobs, `good_job`, `none`, or `refused` when it would fail; and
/// where jobs go, or why it would fail.
fn queue(tx: &mut Tx<'_>, job: &JobConfig) -> Result<(&'static str, String)> {
    match enqueue::choose(tx, job) {
        Ok(queue) => Ok((queue.as_str(), queue.describe())),
        Err(failure) if failure.reason == Reason::EnqueueRefused => {
            let detail = format!("nowhere, a cycle would fail: {}", failure.error_chain());
            Ok(("refused", detail))
        }
        Err(failure) => Err(failure),
    }
}

/// Names the first open entries with their faults, and what an operator can do about them.
fn open_text(open: &[&Rejection]) -> String {
    let Some(first) = open.first() else {
        return String::new();
    };
    let mut text = "\nopen rejections\n".to_owned();
    for it in open.iter().take(NAMED_ENTRIES) {
        let line = format!("{}: {}", it.reference, it.reasons.join(", "));
        text.push_str(&columns::entry("  ", &line));
    }
    let more = open.len().saturating_sub(NAMED_ENTRIES);
    if more > 0 {
        text.push_str(&format!("  and {more} more: datapass-pull rejected list\n"));
    }
    // What a shell would take apart is not put into a command.
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let id = if first.reference.chars().all(is_word) { &first.reference } else { "ID" };
    text + &format!(
        "  Have them corrected in DataPass, or accept one as it is:\n  \
         datapass-pull rejected accept {id} --reason TEXT\n"
    )
}

/// Lists the recent runs, the last one first. The outcome of a change by hand is its kind: only one
/// that succeeded is recorded.
fn runs_text(runs: &[RecentRun]) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let mut text =
        "\nstarted (UTC)     run       outcome         created late rejected deleted     ms\n"
            .to_owned();
    for run in runs {
        let started =
            run.started_at.map_or_else(|| "-".to_owned(), |it| it.format("%F %R").to_string());
        let id = run.run_id.as_deref().and_then(|id| id.get(..8)).unwrap_or("-");
        let outcome = match &*run.kind {
            "cycle" => run.outcome.as_deref().unwrap_or("-"),
            by_hand => by_hand,
        };
        let RecentRun { created, late, rejected, deleted, duration_ms, .. } = run;
        text.push_str(&format!(
            "{started:<18}{id:<10}{outcome:<15}{created:>8}{late:>5}{rejected:>9}{deleted:>8}\
             {duration_ms:>7}\n"
        ));
        if let Some(reason) = &run.reason {
            let stage = run.stage.as_deref().unwrap_or("-");
            text.push_str(&format!("{:28}{reason} (stage {stage})\n", ""));
        }
    }
    text
}

/// Writes a time and how long ago it was, in the two greatest units of that.
fn since(time: Option<DateTime<Utc>>) -> String {
    let Some(time) = time else {
        return "none".to_owned();
    };
    let minutes = (Utc::now() - time).num_minutes().max(0);
    let age = match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    };
    format!("{} ({age} ago)", rfc3339(time))
}
