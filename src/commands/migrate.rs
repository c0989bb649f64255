//! `migrate`: creates the tables, or upgrades those that exist to the schema of `sql/schema.sql`.
//!
//! All of it is one transaction under an advisory lock: it is done, or nothing is changed, and two
//! at once do it once. Existing tables first get what the catalog says they lack
//! (`sql/migrate/steps.sql`); then the schema file, which leaves what exists alone, creates the rest.
//! To rename or retype a column needs `yes`, since such a table was made or changed by others, such
//! as a Rails application.
//!
//! Each statement waits at most five seconds for its lock. A busy table makes `migrate` fail as
//! transient, with nothing changed, instead of holding up the requests behind it.

use postgres::error::SqlState;
use postgres::types::FromSqlOwned;
use postgres::{Error, Row, Transaction};
use serde_json::json;

use super::transact;
use crate::cli::MigrateArgs;
use crate::config::Settings;
use crate::db::sqlstate;
use crate::db::tables::{HANDLED, REQUESTS, WANTED};
use crate::db::transaction::Access;
use crate::error::{Failure, Reason, Stage};
use crate::output::stdout::Answer;

/// Creates all tables; does no harm where they exist.
const SCHEMA: &str = include_str!("../../sql/schema.sql");
const BEGIN: &str = include_str!("../../sql/migrate/begin.sql");
const MISSING_TABLES: &str = include_str!("../../sql/migrate/missing_tables.sql");
const LEFT_IDS: &str = include_str!("../../sql/migrate/left_ids.sql");
const STEPS: &str = include_str!("../../sql/migrate/steps.sql");
const ONE_SCHEMA: &str = include_str!("../../sql/migrate/one_schema.sql");
/// Shown as a change, like the steps.
const FILL_HANDLED: &str = "INSERT INTO datapass_pull_handled (datapass_authorization_id, \
    last_validated_at) SELECT datapass_authorization_id, last_validated_at FROM \
    proactivite_requests WHERE datapass_authorization_id IS NOT NULL";

/// Creates or upgrades the tables, or prints the SQL.
pub fn run(settings: Settings, args: &MigrateArgs) -> Result<Answer, Failure> {
    if args.print {
        return Ok(print().into());
    }
    let yes = args.yes;
    let database = settings.load(Settings::database)?;
    let changes = transact(&database, Access::ReadWrite, move |tx| upgrade(tx.inner(), yes))?;
    Ok(report(&changes))
}

/// Returns the SQL that creates the tables from nothing.
pub fn print() -> String {
    format!(
        "-- Creates the tables of datapass-pull. Existing tables of another shape are upgraded by\n\
         -- `datapass-pull migrate` alone, since the statements depend on what it finds.\n\n{SCHEMA}"
    )
}

/// Returns the changes that were made, as the command prints them.
fn report(changes: &[String]) -> Answer {
    let text = match changes {
        [] => "The tables are up to date\n".to_owned(),
        changes => changes.iter().map(|line| format!("{line}\n")).collect(),
    };
    Answer { text, json: Some(json!({ "changes": changes })) }
}

/// Creates or upgrades the tables in the first schema of the search path; returns the changes.
///
/// Without `yes` nothing is changed when a column would have to be renamed or retyped: the failure
/// ([`Reason::UpgradeRefused`]) shows every statement that would be run.
pub fn upgrade(transaction: &mut Transaction<'_>, yes: bool) -> Result<Vec<String>, Failure> {
    transaction.batch_execute(BEGIN).map_err(failed)?;
    if !value(transaction, ONE_SCHEMA)? {
        return Err(refused(
            "The search path leads to no schema: create it, or name one in DATABASE_URL, as in \
             options=-csearch_path=NAME",
        ));
    }
    let missing: Vec<String> = value(transaction, &format!("{WANTED}{MISSING_TABLES}"))?;
    let is_missing = |name| missing.iter().any(|it| it == name);
    if !is_missing(REQUESTS) && value(transaction, LEFT_IDS)? {
        return Err(refused(
            "Table proactivite_requests has rows whose id is in external_request_id alone, beside \
             a column datapass_authorization_id: copy it there, or drop the empty column, then \
             migrate again",
        ));
    }
    let mut changes = run_steps(transaction, yes)?;
    transaction.batch_execute(SCHEMA).map_err(failed)?;
    changes.extend(missing.iter().map(|name| format!("CREATE TABLE {name}")));
    // Only now: later, an operator may have deleted an entry so that its row is created again.
    if is_missing(HANDLED) && !is_missing(REQUESTS) {
        transaction.batch_execute(FILL_HANDLED).map_err(failed)?;
        changes.push(FILL_HANDLED.to_owned());
    }
    Ok(changes)
}

/// A statement that changes a table.
struct Step {
    sql: String,
    /// Whether it renames or retypes a column, which needs `--yes`.
    is_guarded: bool,
    /// What to do when values are not unique.
    advice: Option<String>,
}

/// Runs the statements that existing tables need, and returns them.
///
/// The steps follow from the catalog alone, so that a table that was changed half-way, by a Rails
/// migration or by hand, gets what it lacks and nothing twice. A table of our schema needs none.
fn run_steps(transaction: &mut Transaction<'_>, yes: bool) -> Result<Vec<String>, Failure> {
    let step = |row: &Row| {
        Ok(Step { sql: row.try_get(0)?, is_guarded: row.try_get(1)?, advice: row.try_get(2)? })
    };
    let steps = transaction.query_typed(&format!("{WANTED}{STEPS}"), &[]);
    let steps: Result<Vec<Step>, _> = steps.and_then(|rows| rows.iter().map(step).collect());
    let steps = steps.map_err(failed)?;
    let statements: Vec<String> = steps.iter().map(|step| step.sql.clone()).collect();
    if !yes && steps.iter().any(|step| step.is_guarded) {
        let message = format!(
            "Nothing was changed: these tables were not created by this program, and columns would \
             be renamed or retyped by: {}; to do so, run `datapass-pull migrate --yes`",
            statements.join("; ")
        );
        return Err(Failure::new(Stage::Prepare, Reason::UpgradeRefused, message));
    }
    for step in &steps {
        let result = transaction.batch_execute(&step.sql);
        result.map_err(|error| step_failed(step, error))?;
    }
    Ok(statements)
}

/// Returns the one value that a statement selects.
fn value<T: FromSqlOwned>(transaction: &mut Transaction<'_>, sql: &str) -> Result<T, Failure> {
    transaction.query_typed_one(sql, &[]).and_then(|row| row.try_get(0)).map_err(failed)
}

fn step_failed(step: &Step, error: Error) -> Failure {
    let is_duplicate = error.code() == Some(&SqlState::UNIQUE_VIOLATION);
    let mut failure = failed(error);
    failure.message.push_str(&match &step.advice {
        Some(advice) if is_duplicate => format!("; {advice}"),
        _ => format!("; in `{}`", step.sql),
    });
    failure
}

fn failed(error: Error) -> Failure {
    let mut failure = sqlstate::failure(Stage::Prepare, "migrate the tables", None, &error);
    if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        let advice = "; migrate must run as the owner of the tables, with CREATE on their schema";
        failure.message.push_str(advice);
    }
    failure
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::new(Stage::Prepare, Reason::DatabaseRefused, message)
}
