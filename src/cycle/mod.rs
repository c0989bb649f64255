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

use log::info;

use self::authenticate::Session;
use self::enqueue::Queue;
use self::filter::{Known, Scope, Sorted};
use self::list::Clocks;
use self::outcome::{Outcome, SharedOutcome};
use crate::config::PullConfig;
use crate::db::transaction::{Access, Store, Tx};
use crate::error::{Result, Stage};
use crate::net::http::Http;
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
    let store = Store::new(&config.database, deadline.clone(), config.max_retries);

    let before = prepare(&store, config, outcome)?;
    let session = Session::authenticate(http, config.upstream.clone())?;
    let (rows, concurrency) = (config.page_size, config.concurrency);
    let listing = list::list(Arc::new(session), rows, concurrency, &before.history, outcome)?;
    let entries = filter::entries(listing.elements);
    let done = commit(&store, config, &before, entries, listing.clocks, outcome)?;

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
            outcome.note_watermark(config.since, &stored);
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

/// Writes all that the listing asks for, or nothing; returns the outcome with it.
fn commit(
    store: &Store,
    config: &PullConfig,
    before: &Before,
    mut entries: Vec<Listed>,
    clocks: Clocks,
    outcome: &SharedOutcome,
) -> Result<Outcome> {
    let access = if config.dry_run { Access::ReadOnly } else { Access::ReadWrite };
    store.transaction(Stage::Create, access, |tx| {
        let done = Outcome { committing: None, ..outcome.lock().clone() };
        let done = write(tx, config, before, &mut entries, clocks, done)?;
        outcome.lock().committing = Some(Box::new(done.clone()));
        Ok(done)
    })
}

/// Decides what becomes of the entries, and writes it; a dry run only decides.
fn write(
    tx: &mut Tx<'_>,
    config: &PullConfig,
    before: &Before,
    entries: &mut [Listed],
    clocks: Clocks,
    mut outcome: Outcome,
) -> Result<Outcome> {
    let definition_id = &config.upstream.definition_id;
    let locked = watermark::lock(tx)?;
    locked.require_definition(definition_id)?;
    reject::reject_unstorable(tx, entries)?;
    let public_ids: Vec<&str> = entries.iter().filter_map(Listed::public_id).collect();
    let known =
        Known { entries: handled::known(tx, &public_ids)?, rejections: rejections::known(tx)? };
    let scope = Scope { since: config.since, skip_before: locked.skip_before };
    let sorted = Sorted::new(entries, scope, &known);
    let newest = filter::newest(entries, clocks.begin);
    let oldest_open = sorted.waiting().and_then(Listed::time);
    let moved = advance::watermark(locked.time, newest, oldest_open);

    outcome.note_watermark(config.since, &locked);
    outcome.run.summary.watermark = moved;
    outcome.run.summary.enqueued = before.queue.jobs_of(sorted.created.len());
    outcome.add(&sorted);
    if before.queue == Queue::NoTable {
        outcome.findings.without_job_table = sorted.created.len();
    }
    outcome.findings.future = filter::future(entries, clocks.end);
    if config.dry_run {
        return Ok(outcome);
    }
    create::create(tx, &sorted.created, &config.job, &before.queue)?;
    handled::record(tx, &sorted.handled)?;
    rejections::record(tx, &sorted.rejected, &sorted.accepted)?;
    // One that was recorded since the cycle began, by another one that overtook it, stays as it is.
    let over = sorted.over(entries, outcome.run.summary.seen, &before.rejections);
    rejections::close(tx, &over)?;
    tx.enter(Stage::Advance);
    watermark::advance(tx, &locked, definition_id, moved)?;
    runs::record(tx, "cycle", &outcome.run, None)?;
    Ok(outcome)
}
