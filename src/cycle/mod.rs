//! One cycle, top to bottom: Authenticate → List → Create → Advance.
//!
//! Nothing is written before the listing is complete; then rows, jobs, rejections, watermark and
//! run are one transaction. A crash at any instant leaves the database as before or as after. No
//! lock is held and no transaction is open while DataPass is asked.

pub mod advance;
pub mod authenticate;
pub mod create;
pub mod enqueue;
pub mod filter;
pub mod list;
pub mod outcome;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use log::{info, warn};

use self::advance::Covered;
use self::authenticate::Session;
use self::enqueue::Queue;
use self::filter::{Plan, Tracked};
use self::list::{Progress, Right};
use self::outcome::SharedOutcome;
use crate::config::PullConfig;
use crate::db::transaction::{Access, Store};
use crate::error::{Reason, Result, Stage};
use crate::net::http::Http;
use crate::output::progress;
use crate::process::deadline::Deadline;
use crate::state::runs::{self};
use crate::state::watermark;
use crate::types::entry::Element;

/// What the database held when the cycle began.
struct Before {
    since: Option<DateTime<Utc>>,
    tracked: Tracked,
    queue: Queue,
    /// How many demandes the last complete listing had.
    expected_rows: Option<u64>,
}

/// Runs one cycle.
pub fn run(config: &PullConfig, deadline: &Deadline, outcome: &SharedOutcome) -> Result<()> {
    // What is wrong on this machine shows before anything is contacted.
    let urls = [&config.upstream.auth_url, &config.upstream.api_base_url];
    let http = Http::new(
        urls,
        &config.upstream.http,
        deadline.clone(),
        config.max_retries,
    )?;
    let store = Store::new(&config.database.url, deadline.clone(), config.max_retries);
    let before = prepare(&store, config, outcome)?;

    // Authenticate.
    let definition_id = config.upstream.definition_id.clone();
    let session = Arc::new(Session::open(http, config.upstream.clone())?);

    // List.
    let mut progress = |progress: Progress| {
        progress::tell(progress);
        let mut outcome = outcome.lock();
        outcome.run.summary.pages = progress.pages;
        outcome.run.summary.seen = progress.seen;
        outcome.run.summary.drift_rewinds = progress.drift_rewinds;
    };
    let source = Arc::clone(&session);
    let page_size = config.page_size as usize;
    let listing = list::list(
        source,
        page_size,
        config.concurrency,
        before.expected_rows,
        &mut progress,
    )?;
    let is_ours = |element: &Element| element.entry.as_ref().is_some_and(|it| it.of_definition);
    if !listing.elements.iter().any(is_ours) {
        demand_right(&session)?;
    }
    let plan = Plan::new(
        listing.elements,
        before.since,
        listing.clock,
        before.tracked,
    );

    // Create and Advance.
    let access = if config.dry_run {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    };
    let done = store.transaction(Stage::Create, access, |tx| {
        let mut outcome = outcome.lock().clone();
        let locked = watermark::lock(tx, config.dry_run)?;
        locked.demand_definition(&definition_id)?;
        outcome.run.summary.watermark_before = locked.time;
        let job = &config.job;
        outcome.findings =
            create::reconcile(tx, &plan, job, &before.queue, &mut outcome.run.summary)?;
        tx.enter(Stage::Advance);
        let covered = Covered {
            since: before.since,
            lookback: config.lookback,
            newest: plan.newest,
            oldest_rejected: outcome.findings.oldest_rejected,
        };
        let watermark = advance::watermark(locked.time, covered);
        outcome.run.summary.watermark = watermark;
        if !config.dry_run {
            watermark::advance(tx, &locked, &definition_id, watermark)?;
            runs::record(tx, "cycle", &outcome.run, None)?;
        }
        Ok(outcome)
    })?;
    *outcome.lock() = done;
    Ok(())
}

/// Reads what the cycle starts from, in one short transaction.
fn prepare(store: &Store, config: &PullConfig, outcome: &SharedOutcome) -> Result<Before> {
    let access = match config.dry_run {
        true => Access::ReadOnly,
        false => Access::ReadBeforeWrite,
    };
    store.transaction(Stage::Prepare, access, |tx| {
        outcome.lock().reached_database = true;
        let stored = watermark::read(tx)?;
        let history = runs::history(tx)?;
        let last_seen = history.last_success.map(|last| last.seen);
        let since = config.since.or_else(|| {
            stored
                .time
                .map(|watermark| advance::since(watermark, config.lookback))
        });
        {
            let mut outcome = outcome.lock();
            outcome.run.summary.since = since;
            outcome.run.summary.watermark_before = stored.time;
            outcome.run.summary.watermark = stored.time;
            outcome.history = Some(history);
        }
        stored.demand_definition(&config.upstream.definition_id)?;
        let tracked = create::tracked(tx)?;
        let queue = enqueue::choose(tx, &config.job)?;
        info!(stage = Stage::Prepare.as_str(); "Jobs go to {}", queue.describe());
        outcome.lock().run.enqueue = Some(queue.as_str());
        Ok(Before {
            since,
            tracked,
            queue,
            expected_rows: last_seen.and_then(|seen| u64::try_from(seen).ok()),
        })
    })
}

/// An empty answer is not yet success: an account without the right sees an empty listing too.
fn demand_right(session: &Session) -> Result<()> {
    match list::right(session) {
        Ok(Right::Granted) => Ok(()),
        Ok(Right::Absent) => Err(list::no_definition()),
        Err(error) => {
            // Time that is over, or a signal, still ends the cycle.
            if matches!(error.failure.reason, Reason::Deadline | Reason::Interrupted) {
                return Err(error.failure);
            }
            warn!(stage = Stage::List.as_str(), reason = error.failure.reason.as_str();
                "No entry is listed, and whether the account may see the definition is unknown: {}",
                error.failure.story());
            Ok(())
        }
    }
}
