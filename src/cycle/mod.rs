//! One cycle, top to bottom: Authenticate → List → Create → Advance.
//!
//! Nothing is written before the listing is complete; then rows, jobs, handled entries, rejections,
//! watermark and run are one transaction. A crash at any instant leaves the database as before or as
//! after. No lock is held and no transaction is open while DataPass is asked.

pub mod advance;
pub(crate) mod authenticate;
pub(crate) mod create;
pub(crate) mod enqueue;
pub mod filter;
pub mod list;
pub(crate) mod outcome;
mod reject;
pub(crate) mod remarks;
pub mod settle;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use log::info;

use self::authenticate::Session;
use self::enqueue::Queue;
use self::filter::{Known, Scope, Sorted};
use self::list::{LastListing, ListSettings, Listing, Progress};
use self::outcome::{Outcome, SharedOutcome};
use crate::config::PullConfig;
use crate::db::transaction::{Access, Store, Tx, TxError};
use crate::error::{Result, Stage};
use crate::net::http::Http;
use crate::output::progress;
use crate::process::deadline::Deadline;
use crate::state::rejections::{self, KnownRejections};
use crate::state::runs::{self, History};
use crate::state::{handled, watermark};
use crate::types::entry::Listed;

/// What the database held when the cycle began.
struct Before {
    history: History,
    rejections: KnownRejections,
    queue: Queue,
}

/// Runs one cycle.
pub fn run(config: &PullConfig, deadline: &Deadline, outcome: &SharedOutcome) -> Result<()> {
    // What is wrong on this machine shows before anything is contacted.
    let urls = [&config.upstream.auth_url, &config.upstream.api_base_url];
    let http = Http::new(urls, &config.upstream.http, deadline.clone(), config.max_retries)?;
    let store = Store::new(&config.database.url, deadline.clone(), config.max_retries);

    let before = prepare(&store, config, outcome)?;
    let session = Session::open(http, config.upstream.clone())?;
    let listing = list(Arc::new(session), config, &before, outcome)?;
    let clock = listing.clock;
    let mut entries = filter::entries(listing.elements);
    outcome.lock().findings.future = filter::future(&entries, listing.clock_at_end);
    let access = if config.dry_run { Access::ReadOnly } else { Access::ReadWrite };
    let done = store.transaction(Stage::Create, access, |tx| {
        let shared = outcome;
        let outcome = Outcome { committing: None, ..shared.lock().clone() };
        let done = commit(tx, config, &before, &mut entries, clock, outcome)?;
        shared.lock().committing = Some(Box::new(done.clone()));
        Ok(done)
    })?;
    remarks::log(&done);
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
        {
            let mut outcome = outcome.lock();
            let summary = &mut outcome.run.summary;
            summary.since = config.since.or(stored.skip_before);
            summary.watermark_before = stored.time;
            summary.watermark = stored.time;
            outcome.history = Some(history.clone());
        }
        stored.require_definition(&config.upstream.definition_id)?;
        let rejections = rejections::known(tx)?;
        let queue = enqueue::choose(tx, &config.job)?;
        info!(stage = Stage::Prepare.as_str(); "Jobs go to {}", queue.describe());
        outcome.lock().run.enqueue = Some(queue.as_str());
        Ok(Before { history, rejections, queue })
    })
}

/// Reads the complete listing.
fn list(
    session: Arc<Session>,
    config: &PullConfig,
    before: &Before,
    outcome: &SharedOutcome,
) -> Result<Listing> {
    let mut progress = |progress: Progress| {
        progress::update(progress.pages, progress.seen);
        let summary = &mut outcome.lock().run.summary;
        summary.pages = progress.pages;
        summary.seen = progress.seen;
        summary.drift_rewinds = progress.drift_rewinds;
    };
    let settings =
        ListSettings { page_size: config.page_size as usize, concurrency: config.concurrency };
    let last = LastListing {
        seen: before.history.last_success.map(|last| last.seen),
        had_entries: before.history.had_entries,
    };
    list::list(session, settings, last, &mut progress)
}

/// Writes all that the listing asks for, or nothing; a dry run only counts.
fn commit(
    tx: &mut Tx<'_>,
    config: &PullConfig,
    before: &Before,
    entries: &mut [Listed],
    clock: DateTime<Utc>,
    mut outcome: Outcome,
) -> Result<Outcome, TxError> {
    let locked = watermark::lock(tx, tx.access())?;
    locked.require_definition(&config.upstream.definition_id)?;
    reject::reject_unstorable(tx, entries)?;
    let scope = Scope { since: config.since, skip_before: locked.skip_before };
    let public_ids: Vec<&str> = entries.iter().filter_map(Listed::public_id).collect();
    let known_entries = handled::known(tx, &public_ids)?;
    let known_rejections = rejections::known(tx)?;
    let known = Known { entries: &known_entries, rejections: &known_rejections };
    let sorted = Sorted::new(entries, scope, known);

    let jobs = if config.dry_run {
        before.queue.jobs_of(sorted.created.len())
    } else {
        create::create(tx, &sorted.created, &config.job, &before.queue)?
    };
    if !config.dry_run {
        handled::record(tx, &sorted.handled)?;
        let seen = outcome.run.summary.seen;
        reject::reject(tx, entries, &sorted, scope, seen, &before.rejections)?;
    }
    tx.enter(Stage::Advance);
    let newest = filter::newest(entries, clock);
    let oldest_open = sorted.waiting().and_then(Listed::time);
    let moved = advance::watermark(locked.time, newest, oldest_open);
    let summary = &mut outcome.run.summary;
    summary.since = scope.since.or(scope.skip_before);
    summary.watermark_before = locked.time;
    summary.watermark = moved;
    summary.enqueued = jobs;
    outcome.add(&sorted);
    if !config.dry_run {
        watermark::advance(tx, &locked, &config.upstream.definition_id, moved)?;
        runs::record(tx, "cycle", &outcome.run, None)?;
    }
    Ok(outcome)
}
