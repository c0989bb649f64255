//! `status`: where the pull stands, for a person at three in the morning, or as JSON.

use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::config::{Format, JobConfig};
use crate::error::{Result, Stage};
use crate::jobs;
use crate::logging::escape;
use crate::rejected;
use crate::report::rfc3339;
use crate::runs;
use crate::store::{Access, Store};
use crate::watermark;

const RECENT_RUNS: &str = include_str!("../sql/recent_runs.sql");

/// One of the last cycles.
struct Run {
    started_at: DateTime<Utc>,
    outcome: Option<String>,
    reason: Option<String>,
    created: i64,
    rejected: i64,
    missing: i64,
    dropped: i64,
    duration_ms: i64,
}

/// Reads the state and writes it down; the text fits 80 columns.
pub fn status(store: &mut Store, job: &JobConfig, format: Format) -> Result<String> {
    store.transaction(Stage::Prepare, Access::ReadOnly, |tx| {
        let watermark = watermark::read(tx)?;
        let rejections = rejected::read(tx)?;
        let last_success = runs::last_success(tx)?;
        let queue = jobs::choose(tx, job)?;
        let rows = tx.rows("read the last runs", RECENT_RUNS, &[])?;
        let runs: Vec<Run> = rows
            .iter()
            .map(|row| Run {
                started_at: row.get(0),
                outcome: row.get(1),
                reason: row.get(2),
                created: row.get(3),
                rejected: row.get(4),
                missing: row.get(5),
                dropped: row.get(6),
                duration_ms: row.get(7),
            })
            .collect();
        let accepted = rejections
            .iter()
            .filter(|it| it.accepted_at.is_some())
            .count();
        let open = rejections.len() - accepted;
        // The list is by validation time, so the first open one with a time is what holds.
        let holder = rejections
            .iter()
            .find(|it| it.accepted_at.is_none() && it.last_validated_at.is_some());
        let now = Utc::now();
        if format == Format::Json {
            let recent: Vec<Value> = runs
                .iter()
                .map(|run| {
                    json!({
                        "started_at": rfc3339(run.started_at), "outcome": run.outcome,
                        "reason": run.reason, "created": run.created, "rejected": run.rejected,
                        "missing": run.missing, "dropped": run.dropped,
                        "duration_ms": run.duration_ms,
                    })
                })
                .collect();
            let answer = json!({
                "definition_id": watermark.definition_id,
                "watermark": watermark.time.map(rfc3339),
                "watermark_age_seconds": watermark.time.map(|time| (now - time).num_seconds()),
                "held_by": holder,
                "last_success": last_success.map(|last| rfc3339(last.started_at)),
                "missing": last_success.map(|last| last.missing),
                "rejected": open,
                "accepted": accepted,
                "enqueue": queue.as_str(),
                "runs": recent,
            });
            return Ok(format!("{answer}\n"));
        }
        let since = |time: DateTime<Utc>| format!("{} ({} ago)", rfc3339(time), age(now - time));
        let none = || "none".to_owned();
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<14}{value}");
        };
        line(
            "definition",
            watermark
                .definition_id
                .as_deref()
                .map_or_else(none, |it| escape(it).into()),
        );
        line("watermark", watermark.time.map_or_else(none, since));
        if let Some(it) = holder {
            line(
                "held by",
                format!(
                    "{}: {}",
                    escape(&it.reference),
                    escape(&it.reasons.join(", "))
                ),
            );
            line("held since", since(it.first_seen_at));
        }
        line(
            "last success",
            last_success.map_or_else(none, |last| since(last.started_at)),
        );
        line("rejected", format!("{open} open, {accepted} accepted"));
        line(
            "missing",
            last_success.map_or_else(none, |last| last.missing.to_string()),
        );
        line("jobs go to", queue.describe().to_owned());
        if !runs.is_empty() {
            let _ = writeln!(
                text,
                "\n{:<17}{:<11}{:<22}{:>8}{:>9}{:>8}",
                "started (UTC)", "outcome", "reason", "created", "rejected", "ms"
            );
        }
        for run in &runs {
            let _ = writeln!(
                text,
                "{:<17}{:<11}{:<22}{:>8}{:>9}{:>8}",
                run.started_at.format("%F %R").to_string(),
                run.outcome.as_deref().unwrap_or("-"),
                run.reason.as_deref().unwrap_or("-"),
                run.created,
                run.rejected,
                run.duration_ms,
            );
        }
        Ok(text)
    })
}

/// Writes an age in its two greatest units.
fn age(delta: TimeDelta) -> String {
    let minutes = delta.num_minutes().max(0);
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
