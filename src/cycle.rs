//! One cycle, top to bottom: Authenticate → List → Create → Advance.
//!
//! Nothing is written before the listing is complete; then rows, jobs, rejections, watermark and
//! run are one transaction. A crash at any instant leaves the database as before or as after. No
//! lock is held and no transaction is open while DataPass is asked.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use chrono::{DateTime, Utc};
use log::{info, warn};

use crate::advance::{self, Covered};
use crate::auth::Session;
use crate::budget::Budget;
use crate::config::PullConfig;
use crate::create::{self, Findings};
use crate::error::{Reason, Result, Stage};
use crate::http::Http;
use crate::jobs::{self, Queue};
use crate::list::decode::Element;
use crate::list::{self, Progress, Right};
use crate::plan::{Plan, Tracked};
use crate::progress;
use crate::report::Summary;
use crate::runs::{self, History};
use crate::store::{Access, Store};
use crate::watermark;

/// What a cycle tells while it runs, so that a report can be made whatever ends it.
#[derive(Debug, Clone)]
pub struct Account {
    /// When the cycle began, for its duration.
    pub started: Instant,
    /// When the cycle began, for its run row.
    pub started_at: DateTime<Utc>,
    /// The counters so far.
    pub summary: Summary,
    /// Whether the database was reached, so that a failure leaves a run row.
    pub reached_database: bool,
    /// The queue that was chosen.
    pub queue: Option<Queue>,
    /// What a person should hear of.
    pub findings: Findings,
    /// The cycles before this one; absent when the database did not come to tell.
    pub history: Option<History>,
}

/// The account, shared with whoever ends the cycle.
#[derive(Debug, Clone)]
pub struct SharedAccount(Arc<Mutex<Account>>);

impl SharedAccount {
    /// Opens the account of a cycle that begins now.
    pub fn open(dry_run: bool, since: Option<DateTime<Utc>>) -> Self {
        Self(Arc::new(Mutex::new(Account {
            started: Instant::now(),
            started_at: Utc::now(),
            summary: Summary {
                dry_run,
                since,
                ..Summary::default()
            },
            reached_database: false,
            queue: None,
            findings: Findings::default(),
            history: None,
        })))
    }

    /// Gives access; a panic elsewhere leaves the counters as they were.
    pub fn lock(&self) -> MutexGuard<'_, Account> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What the database held when the cycle began.
struct Before {
    since: Option<DateTime<Utc>>,
    tracked: Tracked,
    queue: Queue,
    /// How many demandes the last complete listing had.
    expected_rows: Option<u64>,
}

/// Runs one cycle.
pub fn run(config: &PullConfig, budget: &Budget, account: &SharedAccount) -> Result<()> {
    // What is wrong on this machine shows before anything is contacted.
    let urls = [&config.upstream.auth_url, &config.upstream.api_base_url];
    let ca_file = config.upstream.ca_file.as_deref();
    let http = Http::new(urls, ca_file, budget.clone(), config.max_retries)?;
    let mut store = Store::new(&config.database, budget.clone())?;
    let before = prepare(&mut store, config, account)?;

    // Authenticate.
    let definition_id = config.upstream.definition_id.clone();
    let session = Arc::new(Session::open(http, config.upstream.clone())?);

    // List.
    let mut progress = |progress: Progress| {
        progress::tell(progress);
        let mut account = account.lock();
        account.summary.pages = progress.pages;
        account.summary.seen = progress.seen;
        account.summary.drift_rewinds = progress.drift_rewinds;
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
        let mut account = account.lock().clone();
        let locked = watermark::lock(tx, config.dry_run)?;
        locked.demand_definition(&definition_id)?;
        account.summary.watermark_before = locked.time;
        let job = &config.job;
        account.findings = create::reconcile(tx, &plan, job, &before.queue, &mut account.summary)?;
        tx.enter(Stage::Advance);
        let covered = Covered {
            since: before.since,
            lookback: config.lookback,
            newest: plan.newest,
            oldest_rejected: account.findings.oldest_rejected,
        };
        let watermark = advance::watermark(locked.time, covered);
        account.summary.watermark = watermark;
        if !config.dry_run {
            watermark::advance(tx, &locked, &definition_id, watermark)?;
            runs::record(tx, "cycle", &account, None)?;
        }
        Ok(account)
    })?;
    *account.lock() = done;
    Ok(())
}

/// Reads what the cycle starts from, in one short transaction.
fn prepare(store: &mut Store, config: &PullConfig, account: &SharedAccount) -> Result<Before> {
    store.transaction(Stage::Prepare, Access::ReadOnly, |tx| {
        account.lock().reached_database = true;
        let stored = watermark::read(tx)?;
        let history = runs::history(tx)?;
        let last_seen = history.last_success.map(|last| last.seen);
        let since = config.since.or_else(|| {
            stored
                .time
                .map(|watermark| advance::since(watermark, config.lookback))
        });
        {
            let mut account = account.lock();
            account.summary.since = since;
            account.summary.watermark_before = stored.time;
            account.summary.watermark = stored.time;
            account.history = Some(history);
        }
        stored.demand_definition(&config.upstream.definition_id)?;
        let tracked = create::tracked(tx)?;
        let queue = jobs::choose(tx, &config.job)?;
        info!(stage = Stage::Prepare.as_str(); "Jobs go to {}", queue.describe());
        account.lock().queue = Some(queue.clone());
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
