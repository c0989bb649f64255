//! `migrate`: makes our tables, or brings those of the Rails application to our shape.
//!
//! All of it is one transaction under an advisory lock: it is done, or nothing is changed, and two
//! at once do it once. The numbered files of `sql/migrations` are applied by refinery and recorded
//! in `datapass_pull_migrations`. Before that, tables that exist get what they lack
//! (`adopt`); to rename or retype a column there needs `yes`, since a table
//! that does not have our shape was made or changed by others. The README's "Beside a running Rails
//! application" says in which order that is safe.
//!
//! Each statement waits at most five seconds for its lock. A busy table makes `migrate` fail as
//! transient, with nothing changed, instead of holding up the requests behind it.

use postgres::types::Type;
use postgres::{Client, Transaction};
use refinery_core::error::Kind as RefineryKind;
use refinery_core::traits::sync::{Migrate, Query, Transaction as Execute};
use refinery_core::{Migration, Runner};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

mod adopt;

use self::adopt::{AdoptError, Step};
use crate::db::tables::TABLES;
use crate::db::{schema, sqlstate};
use crate::error::{Failure, Reason, Stage};

/// Where refinery keeps its history.
const HISTORY: &str = "datapass_pull_migrations";

/// Every migration, by number. Each must do no harm when it runs again.
const MIGRATIONS: &[(&str, &str)] = &[(
    "V1__tables",
    include_str!("../../../sql/migrations/V1__tables.sql"),
)];

/// Returns the SQL of all migrations, for a person to read or to run.
pub fn print() -> String {
    let mut text = String::from(
        "-- Makes the tables of datapass-pull. Tables that exist in another shape are upgraded by\n\
         -- `datapass-pull migrate` alone, since the statements depend on what it finds.\n",
    );
    for (name, sql) in MIGRATIONS {
        text.push_str(&format!("\n-- {name}\n{sql}"));
    }
    text
}

/// Makes or upgrades the tables in the first schema of the search path; returns a line for each
/// thing that was done.
///
/// Without `yes` nothing is changed when a column would have to be renamed or retyped: the failure
/// ([`Reason::UpgradeRefused`]) shows every statement that would be run.
pub fn migrate(client: &mut Client, yes: bool) -> Result<Vec<String>, Failure> {
    let mut transaction = client.transaction().map_err(|error| failed(&error))?;
    let lines = run(&mut transaction, yes)?;
    transaction.commit().map_err(|error| failed(&error))?;
    Ok(lines)
}

fn run(transaction: &mut Transaction<'_>, yes: bool) -> Result<Vec<String>, Failure> {
    enter(transaction)
        .map_err(|error| failed(&error))?
        .ok_or_else(|| {
            refused(
                "The search path leads to no schema: create it, or name one in DATABASE_URL, as in \
                 options=-csearch_path=NAME",
            )
        })?;
    let schema = schema::inspect(transaction)?;
    let steps = adopt::steps(transaction, &schema).map_err(|error| match error {
        AdoptError::Postgres(error) => failed(&error),
        error => refused(error.to_string()),
    })?;
    if !yes && steps.iter().any(|step| step.guarded) {
        let statements: Vec<&str> = steps.iter().map(|step| step.sql.as_str()).collect();
        return Err(Failure::new(
            Stage::Prepare,
            Reason::UpgradeRefused,
            format!(
                "Nothing was changed: these tables were not made by this program, and columns \
                 would be renamed or retyped by: {}; run `datapass-pull migrate --yes` to do so",
                statements.join("; ")
            ),
        ));
    }

    let mut lines = Vec::new();
    for step in steps {
        transaction
            .batch_execute(&step.sql)
            .map_err(|error| step_failed(&step, &error))?;
        lines.push(step.sql);
    }
    let complete = schema.tables.len() == TABLES.len();
    lines.extend(apply(transaction, complete)?);
    if let Some(fill) = adopt::fill(&schema) {
        transaction
            .batch_execute(&fill)
            .map_err(|error| failed(&error))?;
        lines.push(fill);
    }
    if lines.is_empty() {
        lines.push("The tables are up to date".to_owned());
    }
    Ok(lines)
}

/// Takes the lock and makes the first schema of the search path the only one; returns its name.
fn enter(transaction: &mut Transaction<'_>) -> Result<Option<String>, postgres::Error> {
    transaction.batch_execute(include_str!("../../../sql/migrate/begin.sql"))?;
    let row =
        transaction.query_typed_one(include_str!("../../../sql/migrate/one_schema.sql"), &[])?;
    row.try_get(0)
}

/// Applies the migrations that the history does not have.
fn apply(transaction: &mut Transaction<'_>, complete: bool) -> Result<Vec<String>, Failure> {
    let migrations: Vec<Migration> = MIGRATIONS
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql))
        .collect::<Result<_, _>>()
        .map_err(|error| refinery_failed(&error))?;
    let mut runner = Runner::new(&migrations).set_grouped(true);
    runner.set_migration_table_name(HISTORY);

    let mut executor = Executor(transaction);
    executor
        .assert_migrations_table(HISTORY)
        .map_err(|error| refinery_failed(&error))?;
    if !complete {
        // A table was dropped by hand: all migrations make it anew, and leave the others alone.
        let versions: Vec<i32> = migrations.iter().map(Migration::version).collect();
        executor
            .0
            .execute_typed(
                include_str!("../../../sql/migrate/forget.sql"),
                &[(&versions, Type::INT4_ARRAY)],
            )
            .map_err(|error| failed(&error))?;
    }
    let report = runner
        .run(&mut executor)
        .map_err(|error| refinery_failed(&error))?;
    Ok(report
        .applied_migrations()
        .iter()
        .map(|migration| format!("Applied migration {migration}"))
        .collect())
}

fn step_failed(step: &Step, error: &postgres::Error) -> Failure {
    let mut failure = failed(error);
    let duplicates = error.code().is_some_and(|code| code.code() == "23505");
    match &step.on_duplicates {
        Some(told) if duplicates => failure.message.push_str(&format!("; {told}")),
        _ => failure.message.push_str(&format!("; in `{}`", step.sql)),
    }
    failure
}

fn failed(error: &postgres::Error) -> Failure {
    let mut failure = sqlstate::failure(Stage::Prepare, "migrate the tables", error);
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

fn refinery_failed(error: &refinery_core::Error) -> Failure {
    match error.kind() {
        RefineryKind::Connection(_, source) => match source.downcast_ref::<ExecutorError>() {
            Some(ExecutorError::Postgres(error)) => failed(error),
            _ => refused(format!(
                "Table {HISTORY} holds a row that is not understood"
            )),
        },
        RefineryKind::MissingVersion(migration) | RefineryKind::DivergentVersion(migration, _) => {
            refused(format!(
                "Table {HISTORY} has migration {migration}, which this version of the program \
                 does not know: use the version that made it, or a later one"
            ))
        }
        other => refused(format!("The migrations are not usable: {other}")),
    }
}

/// Lets refinery work inside our transaction, without named statements.
struct Executor<'a, 'b>(&'a mut Transaction<'b>);

#[derive(Debug, thiserror::Error)]
enum ExecutorError {
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    #[error("the history is not understood")]
    History,
}

impl Execute for Executor<'_, '_> {
    type Error = ExecutorError;

    fn execute<'a, T: Iterator<Item = &'a str>>(
        &mut self,
        queries: T,
    ) -> Result<usize, Self::Error> {
        let mut count = 0;
        for query in queries {
            self.0.batch_execute(query)?;
            count += 1;
        }
        Ok(count)
    }
}

impl Query<Vec<Migration>> for Executor<'_, '_> {
    fn query(&mut self, query: &str) -> Result<Vec<Migration>, Self::Error> {
        let mut applied = Vec::new();
        for row in self.0.query_typed(query, &[])? {
            let applied_on: String = row.try_get(2)?;
            let checksum: String = row.try_get(3)?;
            applied.push(Migration::applied(
                row.try_get(0)?,
                row.try_get(1)?,
                OffsetDateTime::parse(&applied_on, &Rfc3339).map_err(|_| ExecutorError::History)?,
                checksum.parse().map_err(|_| ExecutorError::History)?,
            ));
        }
        Ok(applied)
    }
}

impl Migrate for Executor<'_, '_> {}
