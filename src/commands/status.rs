//! `status`: where the pull stands, for a person at three in the morning, or as JSON.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::commands::rejected::{self, Rejection};
use crate::config::{Format, JobConfig, Settings};
use crate::cycle::enqueue::{self, Queue};
use crate::db::transaction::{Access, Columns, Store, Tx, TxError};
use crate::error::{Reason, Result, Stage};
use crate::output::columns;
use crate::output::stdout::document;
use crate::process::supervise::in_time;
use crate::state::runs::{self, LastSuccess};
use crate::state::watermark::{self, Watermark};
use crate::types::time::rfc3339;

const REQUESTS_TABLE: &str = include_str!("../../sql/requests_table.sql");
const DELETED: &str = include_str!("../../sql/deleted_rows.sql");
const RECENT_RUNS: &str = include_str!("../../sql/recent_runs.sql");

/// How many rejected entries the text names; `rejected list` has them all.
const TOLD_REFERENCES: usize = 10;

/// What there is to tell.
struct State {
    now: DateTime<Utc>,
    /// The table of requests, with its schema; none when there is none.
    table: Option<String>,
    watermark: Watermark,
    /// The entry that holds the watermark, and since when.
    held: Option<(Rejection, DateTime<Utc>)>,
    /// References of the rejections that nobody accepted, oldest validation first.
    open: Vec<String>,
    accepted: usize,
    /// How many handled entries have no row.
    deleted: i64,
    last_success: Option<LastSuccess>,
    /// The queue that a cycle would choose, or why it would fail.
    queue: std::result::Result<Queue, String>,
    runs: Vec<Run>,
}

/// One of the last cycles.
struct Run {
    started_at: DateTime<Utc>,
    outcome: Option<String>,
    reason: Option<String>,
    stage: Option<String>,
    created: i64,
    rejected: i64,
    late: i64,
    skipped: i64,
    deleted: i64,
    duration_ms: i64,
}

/// Reads the state and returns it in the format that is asked for.
pub fn run(settings: Settings) -> Result<String> {
    let format = settings.format();
    let (database, job) = settings.load(|it| {
        let (database, job) = (it.database(), it.job());
        Some((database?, job?))
    })?;
    let state = in_time(move |deadline| {
        let store = Store::new(&database.url, deadline, 0);
        store.transaction(Stage::Prepare, Access::ReadOnly, |tx| read(tx, &job))
    })?;
    Ok(match format {
        Format::Json => document(&state.json()),
        Format::Text => state.text(),
    })
}

fn read(tx: &mut Tx<'_>, job: &JobConfig) -> Result<State, TxError> {
    let table = tx.rows("find the table", REQUESTS_TABLE, &[])?;
    let watermark = watermark::read(tx)?;
    let rejections = rejected::read(tx)?;
    let open = rejections.iter().filter(|it| it.accepted_at.is_none());
    let open: Vec<String> = open.map(|it| it.reference.clone()).collect();
    let accepted = rejections.len() - open.len();
    // The list is by validation time, so the first open one is what holds, unless it is dated
    // after what the watermark has reached.
    let holder = rejections
        .into_iter()
        .find(|it| it.accepted_at.is_none() && it.last_validated_at.is_some())
        .filter(|it| it.last_validated_at <= watermark.time);
    let held = match holder {
        Some(it) => {
            let moved = watermark.updated_at;
            let since = moved.map_or(it.first_seen_at, |moved| moved.max(it.first_seen_at));
            Some((it, since))
        }
        None => None,
    };
    let queue = match enqueue::choose(tx, job) {
        Ok(queue) => Ok(queue),
        Err(TxError::Failed(failure)) if failure.reason == Reason::EnqueueRefused => {
            Err(failure.story())
        }
        Err(error) => return Err(error),
    };
    let runs = tx.rows("read the last runs", RECENT_RUNS, &[])?;
    let runs = runs.iter().map(|row| {
        Ok(Run {
            started_at: row.column(0)?,
            outcome: row.column(1)?,
            reason: row.column(2)?,
            stage: row.column(3)?,
            created: row.column(4)?,
            rejected: row.column(5)?,
            late: row.column(6)?,
            skipped: row.column(7)?,
            deleted: row.column(8)?,
            duration_ms: row.column(9)?,
        })
    });
    let runs: Result<Vec<Run>, TxError> = runs.collect();
    let deleted = tx.rows("count the deleted rows", DELETED, &[])?;
    let deleted = deleted.first().map_or(Ok(0), |row| row.column(0))?;
    Ok(State {
        now: Utc::now(),
        table: table.first().map(|row| row.column(0)).transpose()?,
        watermark,
        held,
        open,
        accepted,
        deleted,
        last_success: runs::history(tx)?.last_success,
        queue,
        runs: runs?,
    })
}

impl State {
    fn json(&self) -> Value {
        let run = |run: &Run| {
            json!({
                "started_at": rfc3339(run.started_at),
                "outcome": run.outcome,
                "reason": run.reason,
                "stage": run.stage,
                "created": run.created,
                "rejected": run.rejected,
                "late": run.late,
                "skipped": run.skipped,
                "deleted": run.deleted,
                "duration_ms": run.duration_ms,
            })
        };
        let watermark = self.watermark.time;
        json!({
            "definition_id": self.watermark.definition_id,
            "watermark": watermark.map(rfc3339),
            "watermark_age_seconds": watermark.map(|time| (self.now - time).num_seconds()),
            "held_by": self.held.as_ref().map(|(holder, _)| holder),
            "held_since": self.held.as_ref().map(|(_, since)| rfc3339(*since)),
            "last_success": self.last_success.map(|last| rfc3339(last.started_at)),
            "skip_before": self.watermark.skip_before.map(rfc3339),
            "deleted": self.deleted,
            "rejected": self.open.len(),
            "rejected_refs": self.open,
            "accepted": self.accepted,
            "table": self.table,
            "enqueue": self.queue.as_ref().map_or("refused", |queue| queue.as_str()),
            "enqueue_detail": self.jobs(),
            "runs": self.runs.iter().map(run).collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let since =
            |time: DateTime<Utc>| format!("{} ({} ago)", rfc3339(time), age(self.now - time));
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        let mut lines = vec![
            ("definition", or_none(self.watermark.definition_id.clone())),
            ("watermark", or_none(self.watermark.time.map(since))),
            (
                "skip before",
                or_none(self.watermark.skip_before.map(since)),
            ),
        ];
        if let Some((holder, held_since)) = &self.held {
            let reasons = holder.reasons.join(", ");
            lines.push(("held by", format!("{}: {reasons}", holder.reference)));
            lines.push(("held since", since(*held_since)));
        }
        let last = self.last_success;
        lines.push((
            "last success",
            or_none(last.map(|last| since(last.started_at))),
        ));
        lines.push((
            "rejected",
            format!("{}, {} accepted", self.open_rejections(), self.accepted),
        ));
        lines.push((
            "deleted",
            format!("{} handled entries have no row", self.deleted),
        ));
        lines.push(("rows go to", or_none(self.table.clone())));
        lines.push(("jobs go to", self.jobs()));
        let mut text: String = lines
            .iter()
            .map(|(name, value)| columns::entry(&format!("{name:<14}"), value))
            .collect();
        if !self.runs.is_empty() {
            text.push_str(&format!(
                "\n{:<17}{:<11}{:<21}{:>9}{:>10}{:>9}\n",
                "started (UTC)", "outcome", "reason", "created", "rejected", "ms"
            ));
        }
        for run in &self.runs {
            text.push_str(&format!(
                "{:<17}{:<11}{:<21}{:>9}{:>10}{:>9}\n",
                run.started_at.format("%F %R").to_string(),
                run.outcome.as_deref().unwrap_or("-"),
                run.reason.as_deref().unwrap_or("-"),
                run.created,
                run.rejected,
                run.duration_ms,
            ));
        }
        text
    }

    /// Tells how many rejections are open, and the first of them by their references.
    fn open_rejections(&self) -> String {
        let told = &self.open[..self.open.len().min(TOLD_REFERENCES)];
        let more = if told.len() < self.open.len() {
            ", …"
        } else {
            ""
        };
        match told {
            [] => "0 open".to_owned(),
            told => format!("{} open ({}{more})", self.open.len(), told.join(", ")),
        }
    }

    /// Tells where jobs go, or why a cycle would be refused.
    fn jobs(&self) -> String {
        match &self.queue {
            Ok(queue) => queue.describe(),
            Err(refusal) => format!("nowhere, a cycle would fail: {refusal}"),
        }
    }
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
