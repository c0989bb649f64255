//! One cycle, top to bottom: Authenticate → List → Create → Advance.
//!
//! Nothing is written before the listing is complete; then rows, jobs, rejections, watermark and
//! run are one transaction. A crash at any instant leaves the database as before or as after. No
//! lock is held and no transaction is open while DataPass is asked.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use chrono::{DateTime, Utc};
use log::{info, warn};
use postgres::types::Type;

use crate::advance::{self, Covered};
use crate::auth::Session;
use crate::budget::Budget;
use crate::config::PullConfig;
use crate::create::{self, Findings, Plan, Tracked};
use crate::error::{Failure, Reason, Result, Stage};
use crate::http::Http;
use crate::jobs::{self, Queue};
use crate::list::{self, Progress, Right};
use crate::report::{Summary, rfc3339};
use crate::runs::{self, LastSuccess};
use crate::store::{Access, Store, Tx, TxError};

const READ_WATERMARK: &str = include_str!("../sql/read_watermark.sql");
const LOCK_WATERMARK: &str = include_str!("../sql/lock_watermark.sql");
const INSERT_WATERMARK: &str = include_str!("../sql/insert_watermark.sql");
const MOVE_WATERMARK: &str = include_str!("../sql/move_watermark.sql");

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
    /// The last cycle that succeeded before this one.
    pub last_success: Option<LastSuccess>,
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
            last_success: None,
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
}

/// Runs one cycle.
pub fn run(config: &PullConfig, budget: &Budget, account: &SharedAccount) -> Result<()> {
    let mut store = Store::new(&config.database, budget.clone())?;
    let before = prepare(&mut store, config, account)?;

    // Authenticate.
    let urls = [&config.upstream.auth_url, &config.upstream.api_base_url];
    let ca_file = config.upstream.ca_file.as_deref();
    let http = Http::new(urls, ca_file, budget.clone(), config.max_retries)?;
    let definition_id = config.upstream.definition_id.clone();
    let session = Arc::new(Session::open(http, config.upstream.clone())?);

    // List.
    let mut progress = |progress: Progress| {
        let mut account = account.lock();
        account.summary.pages = progress.pages;
        account.summary.seen = progress.seen;
        account.summary.drift_rewinds = progress.drift_rewinds;
    };
    let source = Arc::clone(&session);
    let page_size = config.page_size as usize;
    let listing = list::list(source, page_size, config.concurrency, &mut progress)?;
    if listing.elements.is_empty() {
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
        let locked = lock_watermark(tx, &definition_id, config.dry_run)?;
        account.summary.watermark_before = locked.time;
        let job = &config.job;
        account.findings = create::reconcile(tx, &plan, job, before.queue, &mut account.summary)?;
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
            advance_to(tx, locked, &definition_id, watermark)?;
            runs::record(tx, &account, None)?;
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
        let stored = read_watermark(tx, READ_WATERMARK)?.unwrap_or_default();
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
        }
        stored.demand_definition(&config.upstream.definition_id)?;
        let tracked = create::tracked(tx)?;
        let queue = jobs::choose(tx, &config.job)?;
        let last_success = runs::last_success(tx)?;
        info!(stage = Stage::Prepare.as_str(); "Jobs go to: {}", queue.as_str());
        let mut account = account.lock();
        account.queue = Some(queue);
        account.last_success = last_success;
        Ok(Before {
            since,
            tracked,
            queue,
        })
    })
}

/// An empty answer is not yet success: an account without the right sees an empty listing too.
fn demand_right(session: &Session) -> Result<()> {
    match list::right(session) {
        Ok(Right::Granted) => Ok(()),
        Ok(Right::Absent) => Err(Failure::new(
            Stage::List,
            Reason::NoDefinition,
            "The account may not see the definition; check DATAPASS_DEFINITION_ID, and ask DataPass \
             for the right on it",
        )),
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

/// The watermark row.
#[derive(Debug, Default)]
struct Watermark {
    definition_id: Option<String>,
    time: Option<DateTime<Utc>>,
}

/// The watermark row, locked until the transaction ends: only [`lock_watermark`] makes one.
struct Locked {
    definition_id: Option<String>,
    time: Option<DateTime<Utc>>,
}

impl Watermark {
    /// Refuses a watermark that belongs to another definition; one without is ours.
    fn demand_definition(&self, ours: &str) -> Result<()> {
        if self
            .definition_id
            .as_deref()
            .is_none_or(|definition| definition == ours)
        {
            return Ok(());
        }
        Err(Failure::new(
            Stage::Prepare,
            Reason::DefinitionChanged,
            "The watermark belongs to another definition than DATAPASS_DEFINITION_ID; set it back, \
             use a schema of its own for the new one, or free the watermark with \
             `datapass-pull watermark reset`",
        ))
    }
}

fn read_watermark(tx: &mut Tx<'_>, sql: &str) -> Result<Option<Watermark>, TxError> {
    let rows = tx.rows("read the watermark", sql, &[])?;
    Ok(rows.first().map(|row| Watermark {
        definition_id: row.get(0),
        time: row.get(1),
    }))
}

/// Takes the lock under which cycles take turns, and judges the definition anew.
fn lock_watermark(tx: &mut Tx<'_>, definition_id: &str, dry_run: bool) -> Result<Locked, TxError> {
    let sql = if dry_run {
        READ_WATERMARK
    } else {
        LOCK_WATERMARK
    };
    let watermark = match read_watermark(tx, sql)? {
        Some(watermark) => watermark,
        None if dry_run => Watermark::default(),
        None => {
            tx.execute("insert the watermark row", INSERT_WATERMARK, &[])?;
            read_watermark(tx, sql)?.unwrap_or_default()
        }
    };
    watermark.demand_definition(definition_id)?;
    Ok(Locked {
        definition_id: watermark.definition_id,
        time: watermark.time,
    })
}

/// Moves the watermark, and makes it the definition's own. A row that would stay as it is is left
/// alone.
fn advance_to(
    tx: &mut Tx<'_>,
    locked: Locked,
    definition_id: &str,
    watermark: Option<DateTime<Utc>>,
) -> Result<(), TxError> {
    let is_ours = locked.definition_id.as_deref() == Some(definition_id);
    if watermark.is_none() || (watermark == locked.time && is_ours) {
        return Ok(());
    }
    tx.execute(
        "move the watermark",
        MOVE_WATERMARK,
        &[
            (&definition_id, Type::TEXT),
            (&watermark, Type::TIMESTAMPTZ),
        ],
    )?;
    if watermark != locked.time {
        info!(stage = Stage::Advance.as_str();
            "The watermark is {}", watermark.map(rfc3339).unwrap_or_default());
    }
    Ok(())
}
