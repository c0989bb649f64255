//! `migrate`: creates the tables, or upgrades those that exist to the schema of `sql/schema.sql`.
//!
//! All of it is one transaction under an advisory lock: it is done, or nothing is changed, and two
//! at once do it once. Existing tables first get what the catalog says they lack (`adopt`); then
//! the schema file, which leaves what exists alone, creates the rest. To rename or retype a column
//! needs `yes`, since such a table was made or changed by others, such as a Rails application.
//!
//! Each statement waits at most five seconds for its lock. A busy table makes `migrate` fail as
//! transient, with nothing changed, instead of holding up the requests behind it.

use postgres::{Client, Transaction};
use serde_json::json;

mod adopt;

use self::adopt::Step;
use crate::cli::MigrateArgs;
use crate::config::{Format, Settings};
use crate::db::tables::{HANDLED, REQUESTS, TABLES};
use crate::db::transaction::{Access, Store};
use crate::db::{schema, sqlstate};
use crate::error::{Failure, Reason, Stage};
use crate::output::stdout::document;
use crate::process::supervise::in_time;

/// Creates all tables; does no harm where they exist.
const SCHEMA: &str = include_str!("../../../sql/schema.sql");
const BEGIN: &str = include_str!("../../../sql/migrate/begin.sql");
const ONE_SCHEMA: &str = include_str!("../../../sql/migrate/one_schema.sql");
/// Shown as a change, like the statements of `adopt`.
const FILL_HANDLED: &str = "INSERT INTO datapass_pull_handled (datapass_authorization_id, \
    last_validated_at) SELECT datapass_authorization_id, last_validated_at FROM \
    proactivite_requests WHERE datapass_authorization_id IS NOT NULL";

/// Creates or upgrades the tables, or prints the SQL.
pub fn run(settings: Settings, args: &MigrateArgs) -> Result<String, Failure> {
    if args.print {
        return Ok(print());
    }
    let (format, yes) = (settings.format(), args.yes);
    let database = settings.load(Settings::database)?;
    in_time(move |deadline| {
        let store = Store::new(&database.url, deadline, 0);
        // A standby is refused as everywhere.
        store.transaction(Stage::Prepare, Access::ReadWrite, |_| Ok(()))?;
        let changes = migrate(&mut store.connect(Stage::Prepare)?, yes)?;
        Ok(report(&changes, format))
    })
}

/// Returns the SQL that creates the tables from nothing.
pub fn print() -> String {
    format!(
        "-- Creates the tables of datapass-pull. Existing tables of another shape are upgraded by\n\
         -- `datapass-pull migrate` alone, since the statements depend on what it finds.\n\n{SCHEMA}"
    )
}

/// Returns the changes that were made, as the command prints them.
fn report(changes: &[String], format: Format) -> String {
    match (format, changes) {
        (Format::Json, _) => document(&json!({ "changes": changes })),
        (Format::Text, []) => "The tables are up to date\n".to_owned(),
        (Format::Text, changes) => changes.iter().map(|line| format!("{line}\n")).collect(),
    }
}

/// Creates or upgrades the tables in the first schema of the search path; returns the changes.
///
/// Without `yes` nothing is changed when a column would have to be renamed or retyped: the failure
/// ([`Reason::UpgradeRefused`]) shows every statement that would be run.
pub fn migrate(client: &mut Client, yes: bool) -> Result<Vec<String>, Failure> {
    let mut transaction = client.transaction().map_err(failed)?;
    let changes = upgrade(&mut transaction, yes)?;
    transaction.commit().map_err(failed)?;
    Ok(changes)
}

fn upgrade(transaction: &mut Transaction<'_>, yes: bool) -> Result<Vec<String>, Failure> {
    if !enter(transaction).map_err(failed)? {
        return Err(refused(
            "The search path leads to no schema: create it, or name one in DATABASE_URL, as in \
             options=-csearch_path=NAME",
        ));
    }
    let schema = schema::inspect(transaction)?;
    let steps = adopt::steps(transaction, &schema)?;
    if !yes && steps.iter().any(|step| step.guarded) {
        let statements: Vec<&str> = steps.iter().map(|step| step.sql.as_str()).collect();
        let message = format!(
            "Nothing was changed: these tables were not created by this program, and columns would \
             be renamed or retyped by: {}; to do so, run `datapass-pull migrate --yes`",
            statements.join("; ")
        );
        return Err(Failure::new(
            Stage::Prepare,
            Reason::UpgradeRefused,
            message,
        ));
    }
    let mut changes = Vec::new();
    for step in steps {
        let result = transaction.batch_execute(&step.sql);
        result.map_err(|error| step_failed(&step, error))?;
        changes.push(step.sql);
    }
    transaction.batch_execute(SCHEMA).map_err(failed)?;
    let missing = |table| schema.table(table).is_none();
    let created = TABLES.into_iter().filter(|table| missing(table));
    changes.extend(created.map(|table| format!("CREATE TABLE {}", table.name)));
    // Only now: later, an operator may have deleted an entry so that its row is created again.
    if missing(&HANDLED) && !missing(&REQUESTS) {
        transaction.batch_execute(FILL_HANDLED).map_err(failed)?;
        changes.push(FILL_HANDLED.to_owned());
    }
    Ok(changes)
}

/// Takes the lock and makes the first schema of the search path the only one; false without any.
fn enter(transaction: &mut Transaction<'_>) -> Result<bool, postgres::Error> {
    transaction.batch_execute(BEGIN)?;
    let row = transaction.query_typed_one(ONE_SCHEMA, &[])?;
    Ok(row.try_get::<_, Option<String>>(0)?.is_some())
}

fn step_failed(step: &Step, error: postgres::Error) -> Failure {
    let is_duplicate = error.code().is_some_and(|code| code.code() == "23505");
    let mut failure = failed(error);
    match &step.on_duplicates {
        Some(advice) if is_duplicate => failure.message.push_str(&format!("; {advice}")),
        _ => failure.message.push_str(&format!("; in `{}`", step.sql)),
    }
    failure
}

fn failed(error: postgres::Error) -> Failure {
    let mut failure = sqlstate::failure(Stage::Prepare, "migrate the tables", &error);
    if error.code().is_some_and(|code| code.code() == "42501") {
        failure
            .message
            .push_str("; migrate must run as the owner of the tables, with CREATE on their schema");
    }
    failure
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::new(Stage::Prepare, Reason::DatabaseRefused, message)
}
