//! Transactions on PostgreSQL: short, bounded by the deadline, and safe to run again.
//!
//! Every statement is unnamed and in one transaction, and every setting is local to it, so that a
//! pooler in transaction mode may be between.

use std::error::Error;
use std::time::Duration;

use chrono::{DateTime, Utc};
use log::info;
use postgres::types::{ToSql, Type, WrongType};
use postgres::{Client, IsolationLevel, Row, Transaction};

use crate::db::url::DatabaseUrl;
use crate::db::{connect, sqlstate, tables};
use crate::error::{Detail, Failure, Reason, Result, Stage};
use crate::net::retry;
use crate::process::deadline::Deadline;
use crate::types::time::has_four_digit_year;

/// How often a transaction is run again after a conflict with another one.
const MAX_RERUNS: u32 = 3;

const TRANSACTION_LIMITS: &str = include_str!("../../sql/transaction_limits.sql");

/// A parameter with its type: with both, no statement needs a name.
pub type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// Returns a column's time; none for null, and for what cannot be written as RFC 3339: `infinity`, or
/// a year that does not have four digits.
pub fn read_time(row: &Row, at: usize) -> Result<Option<DateTime<Utc>>, postgres::Error> {
    match row.try_get::<_, Option<DateTime<Utc>>>(at) {
        Ok(time) => Ok(time.filter(has_four_digit_year)),
        // The type is right, and the value cannot be represented.
        Err(error) if error.source().is_some_and(|cause| !cause.is::<WrongType>()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the failure of a table that did not store what a statement wrote to it.
pub fn not_written(table: &str) -> Failure {
    let message = format!(
        "Table {table} did not store what was written to it, so nothing was written at all: look \
         for a trigger, a rule, row-level security or a view on it"
    );
    Failure::new(Stage::Create, Reason::NotWritten, message)
}

/// The database. Each transaction has a connection of its own, so that none is idle meanwhile: a
/// firewall drops idle connections silently.
pub struct Store {
    url: DatabaseUrl,
    deadline: Deadline,
    max_retries: u32,
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "SQL's own words")]
pub enum Access {
    /// It reads, and PostgreSQL itself refuses any change.
    ReadOnly,
    /// The same, for a later change: it fails where none can be made.
    ReadBeforeWrite,
    /// It changes something.
    ReadWrite,
}

/// An open transaction.
pub struct Tx<'a> {
    inner: Transaction<'a>,
    store: &'a Store,
    stage: Stage,
    access: Access,
}

impl<'a> Tx<'a> {
    /// Runs a statement and returns what `read` makes of each row; with `try_get` it fails for a null or
    /// another type than expected. `what` names the statement in messages, as in `read the watermark`.
    pub fn rows<T>(
        &mut self,
        what: &str,
        sql: &str,
        params: &[Param<'_>],
        read: impl FnMut(&Row) -> Result<T, postgres::Error>,
    ) -> Result<Vec<T>> {
        self.store.deadline.check(self.stage)?;
        let rows = self.inner.query_typed(sql, params);
        let rows = rows.and_then(|rows| rows.iter().map(read).collect());
        rows.map_err(|error| self.store.failed(self.stage, what, sql, &error))
    }

    /// Runs a statement and returns how many rows it changed.
    pub fn execute(&mut self, what: &str, sql: &str, params: &[Param<'_>]) -> Result<u64> {
        self.store.deadline.check(self.stage)?;
        let count = self.inner.execute_typed(sql, params);
        count.map_err(|error| self.store.failed(self.stage, what, sql, &error))
    }

    /// Returns whether this transaction writes.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Runs `body` in a savepoint, and undoes what it changed.
    pub fn undo<T>(&mut self, body: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let Self { store, stage, access, .. } = *self;
        store.deadline.check(stage)?;
        let failed = |error: postgres::Error| store.failed(stage, "set a savepoint", "", &error);
        let inner = self.inner.transaction().map_err(failed)?;
        let mut nested = Tx { inner, store, stage, access };
        let outcome = body(&mut nested);
        nested.inner.rollback().map_err(failed)?;
        outcome
    }

    /// Returns whether the database can store a text: its encoding may lack a character.
    pub fn can_store(&mut self, text: &str) -> Result<bool> {
        const WHAT: &str = "convert a text to the server's encoding";
        self.undo(|tx| match tx.inner.query_typed("select $1::text", &[(&text, Type::TEXT)]) {
            Ok(_) => Ok(true),
            // untranslatable_character, character_not_in_repertoire
            Err(error)
                if error.code().is_some_and(|it| ["22P05", "22021"].contains(&it.code())) =>
            {
                Ok(false)
            }
            Err(error) => Err(tx.store.failed(tx.stage, WHAT, "", &error)),
        })
    }

    /// Returns the driver's transaction, for code that reads the catalog with its own statements.
    pub fn inner(&mut self) -> &mut Transaction<'a> {
        &mut self.inner
    }

    /// Names the step that a failure from here on belongs to.
    pub fn enter(&mut self, stage: Stage) {
        self.stage = stage;
    }
}

impl Store {
    /// Returns the store of a database; nothing is contacted yet. A connection that fails as
    /// transient is retried so often.
    pub fn new(url: &DatabaseUrl, deadline: Deadline, max_retries: u32) -> Self {
        Self { url: url.clone(), deadline, max_retries }
    }

    /// Runs `body` in one transaction, and commits when it succeeds.
    ///
    /// After a conflict with another transaction (40001, 40P01) it is run again from its start, a few
    /// times; a single statement never is.
    pub fn transaction<T>(
        &self,
        stage: Stage,
        access: Access,
        mut body: impl FnMut(&mut Tx<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut reruns = 0;
        loop {
            let failure = match self.run_once(stage, access, &mut body) {
                Err(failure)
                    if reruns < MAX_RERUNS && matches!(failure.detail, Detail::Conflict) =>
                {
                    failure
                }
                ended => return ended,
            };
            reruns += 1;
            info!(stage = failure.stage.as_str(), attempt = reruns;
                "Transaction conflict ({failure}); retrying");
            let wait = Duration::from_millis(fastrand::u64(..500)) * reruns;
            self.deadline.sleep(wait, failure.stage)?;
        }
    }

    fn run_once<T>(
        &self,
        stage: Stage,
        access: Access,
        body: &mut impl FnMut(&mut Tx<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut client = self.connect(stage)?;
        let left_ms = self.deadline.check(stage)?.as_millis().max(1);
        let builder = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
        let builder = match access {
            // `read write` would override default_transaction_read_only.
            Access::ReadWrite => builder,
            Access::ReadOnly | Access::ReadBeforeWrite => builder.read_only(true),
        };
        let inner = match builder.start() {
            Ok(inner) => inner,
            Err(error) => {
                self.require_transactions(stage, &error)?;
                return Err(self.failed(stage, "open a transaction", "", &error));
            }
        };
        let mut tx = Tx { inner, store: self, stage, access };
        // PostgreSQL keeps it in a 32-bit number of milliseconds.
        let limit = left_ms.min(i32::MAX as u128).to_string();
        let what = "set the limits of the transaction";
        let limit = [(&limit as _, Type::TEXT)];
        let mut refusals = tx.rows(what, TRANSACTION_LIMITS, &limit, |row| {
            row.try_get::<_, Option<String>>("refusal")
        })?;
        // Transient, since a failover or an operator ends it.
        if let Some(why) = refusals.pop().flatten().filter(|_| access != Access::ReadOnly) {
            let message = format!("PostgreSQL at {} accepts no changes: {why}", self.url.places());
            return Err(Failure::new(stage, Reason::DatabaseUnavailable, message));
        }
        let value = body(&mut tx)?;
        // The last moment at which stopping leaves everything as it was.
        self.deadline.check(tx.stage)?;
        tx.inner.commit().map_err(|error| self.failed(tx.stage, "commit", "", &error))?;
        Ok(value)
    }

    /// Returns the error of a statement, whose text is `sql`.
    fn failed(&self, stage: Stage, what: &str, sql: &str, error: &postgres::Error) -> Failure {
        let mut failure = sqlstate::failure(stage, what, tables::written_by(sql), error);
        if failure.reason == Reason::DatabaseUnavailable {
            let place = format!(" (PostgreSQL at {})", self.url.places());
            failure.message.push_str(&place);
        }
        if sqlstate::is_conflict(error) {
            failure.detail = Detail::Conflict;
        }
        failure
    }

    /// Fails when statements are pooled, which shows in a connection that ends with each transaction.
    /// PgBouncer's message is lost in the driver when it reads the end of the connection with it.
    fn require_transactions(&self, stage: Stage, error: &postgres::Error) -> Result<()> {
        if error.code().is_some() {
            return Ok(());
        }
        let mut client = self.connect(stage)?;
        let statement = client.batch_execute("select 1");
        match client.batch_execute("begin") {
            Err(error) if error.code().is_some() => {
                Err(self.failed(stage, "open a transaction", "", &error))
            }
            Err(_) if statement.is_ok() => {
                let message = format!("Cannot open a transaction: {}", sqlstate::STATEMENT_POOLING);
                Err(Failure::new(stage, Reason::DatabaseRefused, message))
            }
            _ => Ok(()),
        }
    }

    /// Connects, and retries what fails as transient.
    fn connect(&self, stage: Stage) -> Result<Client> {
        retry::run(&self.deadline, self.max_retries, None, || {
            let left = self.deadline.check(stage)?;
            connect::connect(&self.url, left).map_err(|failure| failure.at(stage))
        })
    }
}
