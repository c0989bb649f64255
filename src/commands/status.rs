//! `status`: watermark, recent runs, rejected entries and deleted rows, as text or as JSON.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::transact;
use crate::config::{JobConfig, Settings};
use crate::cycle::enqueue;
use crate::db::transaction::{Access, Tx};
use crate::error::{Reason, Result};
use crate::output::columns;
use crate::output::stdout::Answer;
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
    /// How a cycle would enqueue jobs: `good_job` or `none`; `refused` when it would fail.
    enqueue: &'static str,
    /// Where jobs go, or why a cycle would fail.
    jobs: String,
    runs: Vec<RecentRun>,
}

/// Reads the state.
pub fn run(settings: Settings) -> Result<Answer> {
    let (database, job) = settings.load(|it| it.database().zip(it.job()))?;
    let state = transact(&database, Access::ReadOnly, move |tx| read(tx, &job))?;
    Ok(Answer { text: state.text(), json: Some(state.json()) })
}

fn read(tx: &mut Tx<'_>, job: &JobConfig) -> Result<State> {
    let (enqueue, jobs) = match enqueue::choose(tx, job) {
        Ok(queue) => (queue.as_str(), queue.describe()),
        Err(failure) if failure.reason == Reason::EnqueueRefused => {
            ("refused", format!("nowhere, a cycle would fail: {}", failure.error_chain()))
        }
        Err(error) => return Err(error),
    };
    let mut deleted = tx.rows("count the deleted rows", DELETED, &[], |row| row.try_get(0))?;
    Ok(State {
        now: Utc::now(),
        table: tx.rows("find the table", REQUESTS_TABLE, &[], |row| row.try_get(0))?.pop(),
        watermark: watermark::read(tx)?,
        rejections: rejections::list(tx)?,
        deleted: deleted.pop().unwrap_or_default(),
        last_success: runs::history(tx)?.last_success,
        enqueue,
        jobs,
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
        self.rejections.iter().filter(|it| it.state == rejections::State::Open)
    }

    fn json(&self) -> Value {
        let watermark = self.watermark.time;
        let held = self.held();
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
            "rejections": self.rejections,
            "table": self.table,
            "enqueue": self.enqueue,
            "enqueue_detail": self.jobs,
            "runs": self.runs,
        })
    }

    fn text(&self) -> String {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        let since = |time: Option<DateTime<Utc>>| {
            or_none(time.map(|time| format!("{} ({} ago)", rfc3339(time), age(self.now - time))))
        };
        let open = self.open().count();
        let mut fields = vec![
            ("definition", or_none(self.watermark.definition_id.clone())),
            ("watermark", since(self.watermark.time)),
        ];
        if let Some((holder, held_since)) = self.held() {
            fields.push(("held by", holder.reference.clone()));
            fields.push(("held since", since(held_since)));
        }
        fields.extend([
            ("skip before", since(self.watermark.skip_before)),
            ("last success", since(self.last_success)),
            ("deleted", format!("{} handled entries have no row", self.deleted)),
            ("rows go to", or_none(self.table.clone())),
            ("jobs go to", self.jobs.clone()),
            ("rejected", format!("{open} open, {} accepted", self.rejections.len() - open)),
        ]);
        columns::fields(&fields) + &self.open_text() + &self.runs_text()
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
        // What a shell would take apart is not put into a command.
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let id = if first.reference.chars().all(is_word) { &first.reference } else { "ID" };
        text + &format!(
            "  Have them corrected in DataPass, or accept one as it is:\n  \
             datapass-pull rejected accept {id} --reason TEXT\n"
        )
    }

    /// Lists the recent runs, the last one first. The outcome of a change by hand is its kind: only
    /// one that succeeded is recorded.
    fn runs_text(&self) -> String {
        if self.runs.is_empty() {
            return String::new();
        }
        let mut text =
            "\nstarted (UTC)     run       outcome         created late rejected deleted     ms\n"
                .to_owned();
        for run in &self.runs {
            let started = run.started_at.map(|it| it.format("%F %R").to_string());
            let started = started.as_deref().unwrap_or("-");
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
