//! What of the tables would make a cycle fail.
//!
//! The server decides: every statement of a cycle is planned, never run, so that types, columns,
//! indexes, rules and privileges are those that a cycle would meet. The catalog explains what the
//! server refuses, and shows what no plan does: which values a table could refuse or hide.

use postgres::error::SqlState;
use postgres::types::{ToSql, Type};
use postgres::{Error, Transaction};

use crate::db::sqlstate;
use crate::db::tables::{
    GOOD_JOBS, HANDLED, REJECTIONS, REQUESTS, RUNS, TABLES, WANTED, WATERMARKS,
};
use crate::error::{Exit, Failure, Reason, Stage};

const FINDINGS: &str = include_str!("../../sql/catalog/findings.sql");
const SERVER: &str = include_str!("../../sql/catalog/server.sql");

/// The first version of PostgreSQL that is supported.
const MIN_VERSION: i32 = 14;

/// The statements of a cycle, each with the table that it is about.
const STATEMENTS: [(&str, &str); 14] = [
    (REQUESTS, include_str!("../../sql/existing_rows.sql")),
    (REQUESTS, include_str!("../../sql/create_rows.sql")),
    (HANDLED, include_str!("../../sql/handled_entries.sql")),
    (HANDLED, include_str!("../../sql/record_handled.sql")),
    (WATERMARKS, include_str!("../../sql/read_watermark.sql")),
    (WATERMARKS, include_str!("../../sql/lock_watermark.sql")),
    (WATERMARKS, include_str!("../../sql/insert_watermark.sql")),
    (WATERMARKS, include_str!("../../sql/move_watermark.sql")),
    (REJECTIONS, include_str!("../../sql/tracked_rejections.sql")),
    (REJECTIONS, include_str!("../../sql/record_rejections.sql")),
    (REJECTIONS, include_str!("../../sql/close_rejections.sql")),
    (RUNS, include_str!("../../sql/history.sql")),
    (RUNS, include_str!("../../sql/is_committed.sql")),
    (RUNS, include_str!("../../sql/record_run.sql")),
];

/// Something that makes a cycle fail, or may.
#[derive(Debug)]
pub enum Finding {
    /// Makes a cycle fail.
    Problem(Failure),
    /// May make a cycle fail; the catalog does not show whether it does.
    Warning(String),
}

/// Returns where the tables are, which counts when nothing is wrong, and what of them would make a
/// cycle fail.
pub fn examine(transaction: &mut Transaction<'_>) -> Result<(String, Vec<Finding>), Failure> {
    let (place, mut findings) = server(transaction).map_err(unreadable)?;
    let mut refusals = Vec::new();
    for (table, sql) in STATEMENTS {
        refusals.extend(refusal(transaction, sql)?.map(|error| (table, error)));
    }
    findings.extend(explain(transaction, &TABLES, refusals).map_err(unreadable)?);
    Ok((format!("{place}: columns, unique indexes and privileges are sufficient"), findings))
}

/// Returns what could keep jobs out of GoodJob's table, whose columns are checked elsewhere.
pub fn examine_jobs(transaction: &mut Transaction<'_>) -> Result<Vec<Finding>, Failure> {
    explain(transaction, &[GOOD_JOBS], Vec::new()).map_err(unreadable)
}

fn server(transaction: &mut Transaction<'_>) -> Result<(String, Vec<Finding>), Error> {
    let row = transaction.query_typed_one(&format!("{WANTED}{SERVER}"), &[])?;
    Ok((row.try_get(2)?, server_findings(row.try_get(0)?, row.try_get(1)?)))
}

fn server_findings(version: i32, encoding: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if version < MIN_VERSION {
        let message = format!("PostgreSQL {version} is not supported: use {MIN_VERSION} or later");
        findings.push(problem(Reason::DatabaseRefused, message));
    }
    if encoding != "UTF8" {
        findings.push(Finding::Warning(format!(
            "The database has the encoding {encoding}, not UTF8: an entry with a character that it \
             cannot store is rejected"
        )));
    }
    findings
}

/// Plans a statement of a cycle; returns the error of a server that refuses it.
fn refusal(transaction: &mut Transaction<'_>, sql: &str) -> Result<Option<Error>, Failure> {
    // The server infers the types of the parameters, and plans for any value.
    let parameters = (1..).take_while(|number| sql.contains(&format!("${number}")));
    let nulls: Vec<_> = parameters.map(|_| (&None::<&str> as _, Type::UNKNOWN)).collect();
    // What the server refuses would end the transaction.
    let planned = transaction
        .transaction()
        .and_then(|mut savepoint| savepoint.query_typed(&format!("explain {sql}"), &nulls));
    let is_lasting = |error: &Error| unplannable(error).exit() == Exit::Permanent;
    match planned.err() {
        Some(error) if error.code().is_none() || !is_lasting(&error) => Err(unplannable(&error)),
        refusal => Ok(refusal),
    }
}

/// Returns the findings about some tables: what applies always, and what explains that the server
/// refuses their statements, or the first refusal itself.
fn explain(
    transaction: &mut Transaction<'_>,
    tables: &[&str],
    mut refusals: Vec<(&str, Error)>,
) -> Result<Vec<Finding>, Error> {
    // Privileges are checked last: without any, all the rest is well.
    let is_denied = |error: &Error| error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    let refused: Vec<&str> = refusals.iter().map(|(table, _)| *table).collect();
    let unfit = refusals.iter().filter(|(_, error)| !is_denied(error));
    let unfit: Vec<&str> = unfit.map(|(table, _)| *table).collect();
    let lists = [&tables as &(dyn ToSql + Sync), &refused, &unfit];
    let mut findings = Vec::new();
    let lists = lists.map(|list| (list, Type::TEXT_ARRAY));
    for row in transaction.query_typed(&format!("{WANTED}{FINDINGS}"), &lists)? {
        let (table, phase): (&str, Option<&str>) = (row.try_get(0)?, row.try_get(1)?);
        let message: String = row.try_get(2)?;
        findings.push(match phase {
            None => Finding::Warning(message),
            Some("missing" | "absent") => problem(Reason::TablesMissing, message),
            Some(_) => problem(Reason::DatabaseRefused, message),
        });
        refusals.retain(|(name, _)| phase.is_none() || *name != table);
    }
    refusals.dedup_by_key(|(table, _)| *table);
    findings.extend(refusals.iter().map(|(_, error)| Finding::Problem(unplannable(error))));
    Ok(findings)
}

fn problem(reason: Reason, message: String) -> Finding {
    Finding::Problem(Failure::new(Stage::Prepare, reason, message))
}

fn unplannable(error: &Error) -> Failure {
    sqlstate::failure(Stage::Prepare, "plan a statement of a cycle", None, error)
}

fn unreadable(error: Error) -> Failure {
    sqlstate::failure(Stage::Prepare, "read the catalog", None, &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statements of other commands, or about no table of ours.
    const NOT_PLANNED: &str = "accept_rejection deleted_rows find_good_jobs find_rejections \
        jobs list_rejections notify_jobs prune_runs recent_runs reopen_rejection \
        requests_table schema transaction_limits";

    #[test]
    fn every_statement_of_a_cycle_is_planned() {
        let mut planned = 0;
        for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql")).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            if path.is_dir() || NOT_PLANNED.split_whitespace().any(|it| it == name) {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(STATEMENTS.iter().any(|(_, sql)| *sql == text), "{name}");
            planned += 1;
        }
        assert_eq!(planned, STATEMENTS.len());
    }

    #[test]
    fn old_servers_and_other_encodings_are_findings() {
        assert!(server_findings(14, "UTF8").is_empty());
        let old = server_findings(13, "UTF8");
        assert!(
            matches!(&old[..], [Finding::Problem(it)] if it.message.contains("use 14 or later"))
        );
        let latin = server_findings(15, "LATIN1");
        assert!(matches!(&latin[..], [Finding::Warning(it)] if it.contains("encoding LATIN1")));
    }
}
