//! Transactions on PostgreSQL: short, bounded by the cycle's budget, and safe to run again.
//!
//! Everything is said with the unnamed prepared statement inside one transaction, and every setting
//! is local to it, so that a pooler in transaction mode may stand between.

use std::error::Error;
use std::fmt::Display;
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use log::{debug, info};
use postgres::row::RowIndex;
use postgres::types::{FromSql, ToSql, Type};
use postgres::{Client, IsolationLevel, Row, Transaction};

use crate::db::url::DatabaseUrl;
use crate::db::{connect, sqlstate};
use crate::error::{Failure, Reason, Result, Stage};
use crate::process::deadline::Budget;

/// How often a transaction that lost against another one is run again.
const MAX_RERUNS: u32 = 3;
/// How long to wait for a lock at most; another cycle's transaction takes a fraction of it.
const LOCK_TIMEOUT_MS: u128 = 30_000;

const TRANSACTION_LIMITS: &str = include_str!("../../sql/transaction_limits.sql");

/// A parameter with its type: with both, no statement needs a name.
pub type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// Reads a row's columns. A null or another type than expected is an error, never a panic.
pub trait Columns {
    /// Returns a column's value, by index or by name.
    fn column<'a, T: FromSql<'a>>(&'a self, at: impl RowIndex + Display) -> Result<T, TxError>;

    /// Returns a column's time; none for null, and for what is not a point in time: `infinity`, or
    /// a year beyond any calendar.
    fn time(&self, at: impl RowIndex + Display) -> Result<Option<DateTime<Utc>>, TxError> {
        Ok(self.column::<Instant>(at)?.0)
    }
}

impl Columns for Row {
    fn column<'a, T: FromSql<'a>>(&'a self, at: impl RowIndex + Display) -> Result<T, TxError> {
        self.try_get(at)
            .map_err(|error| TxError::Sql("read the answer of a statement", error))
    }
}

/// Returns the time in a column, as [`Columns::time`] does; none for another type, too.
pub fn instant(row: &Row, column: usize) -> Option<DateTime<Utc>> {
    row.time(column).ok().flatten()
}

struct Instant(Option<DateTime<Utc>>);

impl FromSql<'_> for Instant {
    fn from_sql(kind: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(DateTime::from_sql(kind, raw).ok()))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(kind: &Type) -> bool {
        <DateTime<Utc> as FromSql<'_>>::accepts(kind)
    }
}

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub enum TxError {
    /// PostgreSQL said no, or nothing: what was tried, and the error.
    Sql(&'static str, postgres::Error),
    /// The cycle itself gave up.
    Failed(Failure),
}

impl From<Failure> for TxError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The database, connected to when first needed.
pub struct Store {
    url: DatabaseUrl,
    budget: Budget,
    client: Option<Client>,
}

/// Whether a transaction writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// PostgreSQL itself refuses any change.
    ReadOnly,
    /// It changes something.
    ReadWrite,
}

/// One statement's surroundings: the open transaction, and the budget that it must keep.
pub struct Tx<'a> {
    inner: Transaction<'a>,
    budget: &'a Budget,
    stage: Stage,
}

impl<'a> Tx<'a> {
    /// Runs a statement and returns its rows. `what` names it for a person.
    pub fn rows(
        &mut self,
        what: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, TxError> {
        self.budget.check(self.stage)?;
        self.inner
            .query_typed(sql, params)
            .map_err(|error| TxError::Sql(what, error))
    }

    /// Runs a statement and returns how many rows it changed.
    pub fn execute(
        &mut self,
        what: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64, TxError> {
        self.budget.check(self.stage)?;
        self.inner
            .execute_typed(sql, params)
            .map_err(|error| TxError::Sql(what, error))
    }

    /// Gives the bare transaction to code that asks the catalog with statements of its own.
    pub fn inner(&mut self) -> &mut Transaction<'a> {
        &mut self.inner
    }

    /// Names the step that a failure from here on belongs to.
    pub fn enter(&mut self, stage: Stage) {
        self.stage = stage;
    }
}

impl Store {
    /// Returns the store of a database; nothing is contacted yet.
    pub fn new(url: &DatabaseUrl, budget: Budget) -> Self {
        Self {
            url: url.clone(),
            budget,
            client: None,
        }
    }

    /// Runs `body` in one transaction, and commits when it succeeds.
    ///
    /// A transaction that lost against another one (40001, 40P01) is run again from its start, a
    /// few times; a single statement never is. A connection that died while it was idle is replaced
    /// once: nothing was done on it yet.
    pub fn transaction<T>(
        &mut self,
        stage: Stage,
        access: Access,
        mut body: impl FnMut(&mut Tx<'_>) -> Result<T, TxError>,
    ) -> Result<T> {
        let mut rerun = 0;
        loop {
            let mut at = stage;
            let (what, error) = match self.run_once(&mut at, access, &mut body) {
                Ok(value) => return Ok(value),
                Err(TxError::Failed(failure)) => return Err(failure),
                Err(TxError::Sql(what, error)) => (what, error),
            };
            if sqlstate::is_disconnected(&error) {
                self.client = None;
            }
            if !sqlstate::is_retryable(&error) || rerun == MAX_RERUNS {
                return Err(sqlstate::failure(at, what, &error));
            }
            rerun += 1;
            let wait = Duration::from_millis(fastrand::u64(..500)) * rerun;
            info!(stage = at.as_str(), attempt = rerun;
                "The transaction lost against another one and is run again");
            thread::sleep(wait.min(self.budget.check(at)?));
        }
    }

    fn run_once<T>(
        &mut self,
        stage: &mut Stage,
        access: Access,
        body: &mut impl FnMut(&mut Tx<'_>) -> Result<T, TxError>,
    ) -> Result<T, TxError> {
        let budget = self.budget.clone();
        let client = self.client(*stage)?;
        let left_ms = budget.check(*stage)?.as_millis().max(1);
        let inner = client
            .build_transaction()
            .isolation_level(IsolationLevel::ReadCommitted)
            .read_only(access == Access::ReadOnly)
            .start()
            .map_err(|error| TxError::Sql("open a transaction", error))?;
        let mut tx = Tx {
            inner,
            budget: &budget,
            stage: *stage,
        };
        // PostgreSQL keeps these in a 32-bit number of milliseconds.
        let limit = left_ms.min(i32::MAX as u128).to_string();
        let lock_limit = left_ms.min(LOCK_TIMEOUT_MS).to_string();
        tx.rows(
            "bound the transaction",
            TRANSACTION_LIMITS,
            &[(&limit, Type::TEXT), (&lock_limit, Type::TEXT)],
        )?;
        let outcome = body(&mut tx);
        *stage = tx.stage;
        let value = outcome?;
        // The last moment at which stopping leaves everything as it was.
        budget.check(tx.stage)?;
        tx.inner
            .commit()
            .map_err(|error| TxError::Sql("commit", error))?;
        Ok(value)
    }

    /// Returns a connection outside of any transaction, for `migrate`, which opens its own.
    pub fn client(&mut self, stage: Stage) -> Result<&mut Client> {
        self.ensure_connected(stage)?;
        self.client.as_mut().ok_or_else(|| not_connected(stage))
    }

    /// Connects, or replaces a connection that died while nobody used it.
    fn ensure_connected(&mut self, stage: Stage) -> Result<()> {
        if let Some(client) = &mut self.client {
            if client.is_valid(IDLE_CHECK_TIMEOUT).is_ok() {
                return Ok(());
            }
            debug!(stage = stage.as_str(); "The idle connection is gone; connecting again");
            self.client = None;
        }
        let left = self.budget.check(stage)?;
        let client = connect::connect(&self.url, left).map_err(|failure| failure.at(stage))?;
        self.client = Some(client);
        Ok(())
    }
}

/// How long an idle connection may take to show that it is alive.
const IDLE_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

fn not_connected(stage: Stage) -> Failure {
    Failure::new(stage, Reason::DatabaseUnavailable, "There is no connection")
}
