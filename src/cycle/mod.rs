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
use self::filter::{Basis, Class, Decisions};
use self::list::Clocks;
use self::outcome::{Outcome, SharedOutcome};
use crate::config::PullConfig;
use crate::db::transaction::{Access, Store, Tx};
use crate::error::{Result, Stage};
use crate::net::http::Http;
use crate::process::deadline::Deadline;
use crate::state::handled;
use crate::state::rejections::{self, KnownRejections};
use crate::state::runs::{self, History};
use crate::state::watermark::{self, Watermark};
use crate::types::entry::Entry;

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
    let entries = filter::in_order(listing.entries);
    commit(&store, config, &before, entries, listing.clocks, outcome)?;
    settle::conclude(outcome);
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
        outcome.lock().note_watermark(config.since, &stored);
        outcome.lock().history = Some(history.clone());
        stored.require_definition(&config.upstream.definition_id)?;
        let rejections = rejections::known(tx)?;
        let queue = enqueue::choose(tx, &config.job)?;
        info!(stage = Stage::Prepare.as_str(); "Jobs go to {}", queue.describe());
        outcome.lock().run.enqueue = Some(queue.as_str());
        Ok(Before { history, rejections, queue })
    })
}

/// Decides what becomes of the entries, and writes all of it or nothing; a dry run only decides.
fn commit(
    store: &Store,
    config: &PullConfig,
    before: &Before,
    mut entries: Vec<Arc<Entry>>,
    clocks: Clocks,
    outcome: &SharedOutcome,
) -> Result<()> {
    let access = if config.dry_run { Access::ReadOnly } else { Access::ReadWrite };
    store.transaction(Stage::Create, access, |tx| {
        let locked = watermark::lock(tx)?;
        locked.require_definition(&config.upstream.definition_id)?;
        reject::reject_unstorable(tx, &mut entries)?;
        let public_ids: Vec<&str> = entries.iter().filter_map(|it| it.public_id()).collect();
        let basis = Basis {
            since: config.since,
            skip_before: locked.skip_before,
            watermark: locked.time,
            entries: handled::known(tx, &public_ids)?,
            rejections: rejections::known(tx)?,
        };
        let decisions = Decisions::new(&entries, &basis);
        let newest = filter::newest(&entries, clocks.begin);
        let oldest_open = decisions.waiting().and_then(Entry::time);

        let mut done = Outcome { committing: None, ..outcome.lock().clone() };
        done.note_watermark(config.since, &locked);
        done.add(decisions);
        let summary = &mut done.run.summary;
        summary.watermark = advance::watermark(locked.time, newest, oldest_open);
        summary.enqueued = before.queue.jobs_of(summary.created);
        done.lacks_job_table = before.queue == Queue::NoTable;
        done.future = entries.iter().filter(|it| it.time() > Some(clocks.end)).count();
        if !config.dry_run {
            write(tx, config, before, &locked, &done)?;
        }
        outcome.lock().committing = Some(Box::new(done));
        Ok(())
    })
}

/// Writes what was decided.
fn write(
    tx: &mut Tx<'_>,
    config: &PullConfig,
    before: &Before,
    locked: &Watermark,
    done: &Outcome,
) -> Result<()> {
    let (decisions, summary) = (&done.decisions, &done.run.summary);
    let of = |class| decisions.of(class).collect::<Vec<_>>();
    create::create(tx, &of(Class::Created), &config.job, &before.queue)?;
    handled::record(tx, &decisions.those(|it| it.is_recorded).collect::<Vec<_>>())?;
    rejections::record(tx, &of(Class::Rejected), &of(Class::Accepted))?;
    // One that was recorded since the cycle began, by another one that overtook it, stays as it is.
    let is_whole = config.since.is_none() && summary.seen > 0;
    rejections::close(tx, &decisions.over(is_whole, &before.rejections))?;
    tx.enter(Stage::Advance);
    watermark::advance(tx, locked, &config.upstream.definition_id, summary.watermark)?;
    runs::record(tx, "cycle", &done.run, None)
}
