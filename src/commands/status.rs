//! `status`: watermark, recent runs, rejected entries and deleted rows, as text or as JSON.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::config::{Format, JobConfig, Settings};
use crate::cycle::enqueue::{self, Queue};
use crate::db::transaction::{Access, Columns, Store, Tx, TxError};
use crate::error::{Reason, Result, Stage};
use crate::output::columns;
use crate::output::stdout::document;
use crate::process::supervise::in_time;
use crate::state::rejections::{self, Rejection};
use crate::state::runs::{self, RecentRun};
use crate::state::watermark::{self, Watermark};
use crate::types::time::rfc3339;

const REQUESTS_TABLE: &str = include_str!("../../sql/requests_table.sql");
const DELETED: &str = include_str!("../../sql/deleted_rows.sql");

/// How many open entries the text names; `rejected list` has them all.
const NAMED_ENTRIES: usize = 10;

/// What the tables hold.
struct State {
    now: DateTime<Utc>,
    /// The table of requests, with its schema; none when there is none.
    table: Option<String>,
    watermark: Watermark,
    /// The rejections that are open or accepted, oldest validation first.
    rejections: Vec<Rejection>,
    /// How many handled entries have no row.
    deleted: i64,
    last_success: Option<DateTime<Utc>>,
    /// The queue that a cycle would choose, or why it would fail.
    queue: std::result::Result<Queue, String>,
    runs: Vec<RecentRun>,
}

/// Reads the state and returns it in the requested format.
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
    let queue = match enqueue::choose(tx, job) {
        Ok(queue) => Ok(queue),
        Err(TxError::Failed(failure)) if failure.reason == Reason::EnqueueRefused => {
            Err(failure.error_chain())
        }
        Err(error) => return Err(error),
    };
    let deleted = tx.rows("count the deleted rows", DELETED, &[])?;
    Ok(State {
        now: Utc::now(),
        table: table.first().map(|row| row.column(0)).transpose()?,
        watermark: watermark::read(tx)?,
        rejections: rejections::list(tx)?,
        deleted: deleted.first().map_or(Ok(0), |row| row.column(0))?,
        last_success: runs::history(tx)?.last_success,
        queue,
        runs: runs::recent(tx)?,
    })
}

impl State {
    /// Returns the entry that holds the watermark, and since when: the oldest open one, unless it is
    /// dated after what the watermark has reached.
    fn held(&self) -> Option<(&Rejection, Option<DateTime<Utc>>)> {
        let holder = self.open().find(|it| it.last_validated_at.is_some())?;
        let is_reached = holder.last_validated_at <= self.watermark.time;
        // `None` is smaller than any time.
        is_reached.then(|| (holder, holder.first_seen_at.max(self.watermark.updated_at)))
    }

    fn open(&self) -> impl Iterator<Item = &Rejection> {
        self.rejections.iter().filter(|it| it.is_open())
    }

    fn json(&self) -> Value {
        let watermark = self.watermark.time;
        let held = self.held();
        let documents: Vec<Value> = self.rejections.iter().map(Rejection::document).collect();
        let runs: Vec<Value> = self.runs.iter().map(RecentRun::document).collect();
        let open = self.open().count();
        json!({
            "definition_id": self.watermark.definition_id,
            "watermark": watermark.map(rfc3339),
            "watermark_age_seconds": watermark.map(|time| (self.now - time).num_seconds()),
            "held_by": held.map(|(holder, _)| &holder.reference),
            "held_since": held.and_then(|(_, since)| since).map(rfc3339),
            "skip_before": self.watermark.skip_before.map(rfc3339),
            "last_success": self.last_success.map(rfc3339),
            "deleted": self.deleted,
            "rejected": open,
            "accepted": self.rejections.len() - open,
            "rejections": documents,
            "table": self.table,
            "enqueue": self.queue.as_ref().map_or("refused", |queue| queue.as_str()),
            "enqueue_detail": self.jobs(),
            "runs": runs,
        })
    }

    fn text(&self) -> String {
        let since =
            |time: DateTime<Utc>| format!("{} ({} ago)", rfc3339(time), age(self.now - time));
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        let open = self.open().count();
        let mut fields = vec![
            ("definition", or_none(self.watermark.definition_id.clone())),
            ("watermark", or_none(self.watermark.time.map(since))),
        ];
        if let Some((holder, held_since)) = self.held() {
            fields.push(("held by", holder.reference.clone()));
            fields.push(("held since", or_none(held_since.map(since))));
        }
        fields.extend([
            ("skip before", or_none(self.watermark.skip_before.map(since))),
            ("last success", or_none(self.last_success.map(since))),
            ("deleted", format!("{} handled entries have no row", self.deleted)),
            ("rows go to", or_none(self.table.clone())),
            ("jobs go to", self.jobs()),
            ("rejected", format!("{open} open, {} accepted", self.rejections.len() - open)),
        ]);
        let mut text: String = fields
            .iter()
            .map(|(name, value)| columns::entry(&format!("{name:<14}"), value))
            .collect();
        text.push_str(&self.open_text());
        text.push_str(&self.runs_text());
        text
    }

    /// Names the first open entries with their faults, and what an operator can do about them.
    fn open_text(&self) -> String {
        let Some(first) = self.open().next() else {
            return String::new();
        };
        let mut text = "\nopen rejections\n".to_owned();
        for it in self.open().take(NAMED_ENTRIES) {
            let line = format!("{}: {}", it.reference, it.reasons.join(", "));
            text.push_str(&columns::entry("  ", &line));
        }
        let more = self.open().count().saturating_sub(NAMED_ENTRIES);
        if more > 0 {
            text.push_str(&format!("  and {more} more: datapass-pull rejected list\n"));
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let id = Some(&*first.reference).filter(|it| it.chars().all(is_word));
        text.push_str(&format!(
            "  Have them corrected in DataPass, or accept one as it is:\n  \
             datapass-pull rejected accept {} --reason TEXT\n",
            id.unwrap_or("ID")
        ));
        text
    }

    /// Lists the recent runs, the last one first. The outcome of a change by hand is its kind: only
    /// one that succeeded is recorded.
    fn runs_text(&self) -> String {
        if self.runs.is_empty() {
            return String::new();
        }
        let mut text = format!(
            "\n{:<18}{:<10}{:<15}{:>8}{:>5}{:>9}{:>8}{:>7}\n",
            "started (UTC)", "run", "outcome", "created", "late", "rejected", "deleted", "ms"
        );
        for run in &self.runs {
            let started = run.started_at.map(|it| it.format("%F %R").to_string());
            let id = run.run_id.as_deref().and_then(|id| id.get(..8));
            let outcome = match &*run.kind {
                "cycle" => run.outcome.as_deref(),
                by_hand => Some(by_hand),
            };
            text.push_str(&format!(
                "{:<18}{:<10}{:<15}{:>8}{:>5}{:>9}{:>8}{:>7}\n",
                started.as_deref().unwrap_or("-"),
                id.unwrap_or("-"),
                outcome.unwrap_or("-"),
                run.created,
                run.late,
                run.rejected,
                run.deleted,
                run.duration_ms,
            ));
            if let Some(reason) = &run.reason {
                let stage = run.stage.as_deref().unwrap_or("-");
                text.push_str(&format!("{:28}{reason} (stage {stage})\n", ""));
            }
        }
        text
    }

    /// Describes where jobs go, or why a cycle would fail.
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
