//! What the tables look like, and what of it would make a cycle fail.
//!
//! The server decides: every statement of a cycle is planned, never run, so that types, columns,
//! indexes, rules and privileges are those that a cycle would meet. The catalog explains what the
//! server refuses, and shows what no plan does: which values a table could refuse or hide.

use postgres::error::SqlState;
use postgres::types::{Json, Type};
use postgres::{GenericClient, Transaction};
use serde::Deserialize;

use crate::db::sqlstate;
use crate::db::tables::{
    Column, GOOD_JOBS, HANDLED, Kind, OLD_ID, REJECTIONS, REQUESTS, RUNS, TABLES, Table, WATERMARKS,
};
use crate::error::{Failure, Kind as FailureKind, Reason, Stage};

const CATALOG: &str = include_str!("../../sql/catalog.sql");
/// The first version of PostgreSQL that is supported.
const MIN_VERSION: i32 = 14;

/// The statements of a cycle, each with the table that it is about.
const STATEMENTS: [(&Table, &str); 14] = [
    (&REQUESTS, include_str!("../../sql/existing_rows.sql")),
    (&REQUESTS, include_str!("../../sql/create_rows.sql")),
    (&HANDLED, include_str!("../../sql/handled_entries.sql")),
    (&HANDLED, include_str!("../../sql/record_handled.sql")),
    (&WATERMARKS, include_str!("../../sql/read_watermark.sql")),
    (&WATERMARKS, include_str!("../../sql/lock_watermark.sql")),
    (&WATERMARKS, include_str!("../../sql/insert_watermark.sql")),
    (&WATERMARKS, include_str!("../../sql/move_watermark.sql")),
    (
        &REJECTIONS,
        include_str!("../../sql/tracked_rejections.sql"),
    ),
    (&REJECTIONS, include_str!("../../sql/record_rejections.sql")),
    (&REJECTIONS, include_str!("../../sql/close_rejections.sql")),
    (&RUNS, include_str!("../../sql/history.sql")),
    (&RUNS, include_str!("../../sql/is_committed.sql")),
    (&RUNS, include_str!("../../sql/record_run.sql")),
];

/// What was found of our tables.
#[derive(Debug, Deserialize)]
pub struct Schema {
    /// The role that asked, quoted as an identifier.
    role: String,
    /// `server_version_num`.
    version: i32,
    /// `server_encoding`.
    encoding: String,
    /// Our tables that exist.
    tables: Vec<FoundTable>,
}

/// A table that exists.
#[derive(Debug, Deserialize)]
pub(crate) struct FoundTable {
    name: String,
    /// The schema that it is found in, quoted as an identifier.
    schema: String,
    /// `relkind`: `r` or `p` for a table, `v` for a view.
    kind: char,
    columns: Vec<FoundColumn>,
    unique_indexes: Vec<UniqueIndex>,
    /// Which of SELECT, INSERT and UPDATE the role has on all columns.
    privileges: Vec<String>,
    /// Sequences behind defaults that the role may not use.
    forbidden_sequences: Vec<String>,
    guards: Vec<Guard>,
    /// Whether row-level security applies to the role.
    hides_rows: bool,
    /// The `polcmd` of policies that hide nothing from the role.
    open_commands: Vec<char>,
}

/// A column that exists, with what the domain of its type adds.
#[derive(Debug, Deserialize)]
pub(crate) struct FoundColumn {
    name: String,
    /// The name of its type in `pg_type`.
    #[serde(rename = "type")]
    pub(crate) type_name: String,
    /// Its type as SQL names it.
    shown_type: String,
    max_chars: Option<u32>,
    pub(crate) not_null: bool,
    pub(crate) has_default: bool,
    /// Whether a domain checks values.
    is_checked: bool,
    is_generated: bool,
    /// Whether it is an identity column that takes no value but its own.
    is_identity: bool,
    privileges: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct UniqueIndex {
    name: String,
    /// Its columns; none stands for an expression.
    columns: Vec<Option<String>>,
    /// Whether `on conflict` can use it.
    is_arbiter: bool,
}

/// What may refuse a row, keep it out or change it.
#[derive(Debug, Deserialize)]
struct Guard {
    kind: GuardKind,
    name: String,
    definition: Option<String>,
    /// Whether it applies to inserts, not to updates alone.
    on_insert: bool,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum GuardKind {
    Trigger,
    /// A rule that does something besides the statement.
    Rule,
    /// A rule that replaces the statement.
    Instead,
    Constraint,
}

/// What a look at the tables found.
#[derive(Debug)]
pub enum Finding {
    /// Makes a cycle fail.
    Problem(Failure),
    /// May make a cycle fail; the catalog does not show whether it does.
    Warning(String),
}

impl Schema {
    pub(crate) fn table(&self, table: &Table) -> Option<&FoundTable> {
        self.tables.iter().find(|found| found.name == table.name)
    }

    /// Returns where the tables are, since a search path may lead to several schemas.
    pub fn place(&self) -> String {
        let mut schemas: Vec<&str> = self.tables.iter().map(|it| it.schema.as_str()).collect();
        schemas.dedup();
        if let [schema] = schemas[..] {
            return format!("in schema {schema}");
        }
        let names = self.tables.iter();
        let names: Vec<String> = names
            .map(|it| format!("{}.{}", it.schema, it.name))
            .collect();
        names.join(", ")
    }
}

impl FoundTable {
    pub(crate) fn column(&self, name: &str) -> Option<&FoundColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns whether a unique index that `on conflict` can use covers the column alone.
    pub(crate) fn is_unique(&self, column: &str) -> bool {
        let covers = |index: &UniqueIndex| matches!(&index.columns[..], [Some(it)] if it == column);
        self.unique_indexes
            .iter()
            .any(|index| index.is_arbiter && covers(index))
    }
}

impl FoundColumn {
    /// Returns whether it is Rails' `timestamp without time zone`.
    pub(crate) fn is_naive(&self) -> bool {
        self.type_name == "timestamp"
    }
}

/// Reads from the catalog what our tables look like and what the role may do with them.
pub fn inspect(client: &mut impl GenericClient) -> Result<Schema, Failure> {
    read(client, &TABLES)
}

fn read(client: &mut impl GenericClient, tables: &[&Table]) -> Result<Schema, Failure> {
    let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
    client
        .query_typed_one(CATALOG, &[(&names, Type::TEXT_ARRAY)])
        .and_then(|row| row.try_get::<_, Json<Schema>>(0))
        .map(|Json(schema)| schema)
        .map_err(|error| sqlstate::failure(Stage::Prepare, "read the catalog", &error))
}

/// Returns what the tables look like, and what of it would make a cycle fail.
pub fn examine(transaction: &mut Transaction<'_>) -> Result<(Schema, Vec<Finding>), Failure> {
    let schema = inspect(transaction)?;
    let mut findings = server_findings(&schema);
    for table in TABLES {
        let refusals = refusals(transaction, table)?;
        findings.extend(table_findings(&schema, table, &refusals));
    }
    Ok((schema, findings))
}

/// Returns what could keep jobs out of GoodJob's table, whose columns are checked elsewhere.
pub fn examine_jobs(transaction: &mut Transaction<'_>) -> Result<Vec<Finding>, Failure> {
    let schema = read(transaction, &[&GOOD_JOBS])?;
    let Some(found) = schema.table(&GOOD_JOBS) else {
        return Ok(Vec::new());
    };
    let mut findings = guard_findings(&GOOD_JOBS, found);
    findings.extend(row_security(&schema.role, &GOOD_JOBS, found).map(problem));
    Ok(findings)
}

/// Plans the statements of a cycle that are about a table; returns what the server refuses.
fn refusals(
    transaction: &mut Transaction<'_>,
    table: &Table,
) -> Result<Vec<postgres::Error>, Failure> {
    let mut refusals = Vec::new();
    let statements = STATEMENTS.iter().filter(|(it, _)| it.name == table.name);
    for (_, sql) in statements {
        // The server infers the types of the parameters, and plans for any value.
        let parameters = (1..).take_while(|number| sql.contains(&format!("${number}")));
        let nulls: Vec<_> = parameters
            .map(|_| (&None::<&str> as _, Type::UNKNOWN))
            .collect();
        // What the server refuses would end the transaction.
        let planned = transaction
            .transaction()
            .and_then(|mut savepoint| savepoint.query_typed(&format!("explain {sql}"), &nulls));
        if let Err(error) = planned {
            let failure = refused(&error);
            if failure.kind() == FailureKind::Transient || error.code().is_none() {
                return Err(failure);
            }
            refusals.push(error);
        }
    }
    Ok(refusals)
}

fn refused(error: &postgres::Error) -> Failure {
    sqlstate::failure(Stage::Prepare, "plan a statement of a cycle", error)
}

fn server_findings(schema: &Schema) -> Vec<Finding> {
    let mut findings = Vec::new();
    let version = schema.version / 10_000;
    if version < MIN_VERSION {
        findings.push(problem(format!(
            "PostgreSQL {version} is not supported: use {MIN_VERSION} or later"
        )));
    }
    if schema.encoding != "UTF8" {
        findings.push(Finding::Warning(format!(
            "The database has the encoding {}, not UTF8: an entry with a character that it cannot \
             store is rejected",
            schema.encoding
        )));
    }
    findings
}

fn table_findings(schema: &Schema, table: &Table, refusals: &[postgres::Error]) -> Vec<Finding> {
    let name = table.name;
    let Some(found) = schema.table(table) else {
        let missing = format!("Table {name} is missing: run `datapass-pull migrate`");
        let failure = Failure::new(Stage::Prepare, Reason::TablesMissing, missing);
        return vec![Finding::Problem(failure)];
    };
    if !['r', 'p', 'v'].contains(&found.kind) {
        return vec![problem(format!(
            "{name} is not a table: rename it, then run `datapass-pull migrate`"
        ))];
    }
    let mut findings = Vec::new();
    if !refusals.is_empty() {
        // Privileges are checked last: without any, all the rest is well.
        let is_denied =
            |error: &postgres::Error| error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
        if !refusals.iter().all(is_denied) {
            findings.extend(misfits(table, found).into_iter().map(problem));
        }
        findings.extend(missing_grants(&schema.role, table, found).map(problem));
    }
    let has_key = found.kind == 'v' || found.is_unique(table.unique);
    if found.column(table.unique).is_some() && !has_key {
        findings.push(problem(format!(
            "No unique index covers {name}.{} alone: run `datapass-pull migrate`",
            table.unique
        )));
    }
    for column in table.columns {
        findings.extend(column_finding(table, column, found));
    }
    findings.extend(unfilled_columns(table, found).map(problem));
    findings.extend(found.forbidden_sequences.iter().map(|sequence| {
        let role = &schema.role;
        problem(format!(
            "Role {role} lacks USAGE on {sequence}: run `GRANT USAGE ON SEQUENCE {sequence} TO \
             {role}`"
        ))
    }));
    findings.extend(guard_findings(table, found));
    findings.extend(row_security(&schema.role, table, found).map(problem));
    let is_problem = |finding: &Finding| matches!(finding, Finding::Problem(_));
    if !findings.iter().any(is_problem) {
        findings.extend(refusals.first().map(refused).map(Finding::Problem));
    }
    findings
}

/// Explains why the server refuses a statement, but for privileges.
fn misfits(table: &Table, found: &FoundTable) -> Vec<String> {
    let table_name = table.name;
    let mut misfits = Vec::new();
    for column in table.columns {
        let name = format!("{table_name}.{}", column.name);
        let alter = format!("run `ALTER TABLE {table_name} ALTER COLUMN {}", column.name);
        misfits.extend(match found.column(column.name) {
            None if is_old_id(table, column.name, found) => Some(format!(
                "Column {name} is still called {OLD_ID}: run `datapass-pull migrate --yes`"
            )),
            None => Some(format!(
                "Column {name} is missing: run `datapass-pull migrate`"
            )),
            Some(existing) if existing.is_generated => Some(format!(
                "Column {name} is generated: {alter} DROP EXPRESSION`"
            )),
            Some(existing) if existing.is_identity && column.name != "id" => Some(format!(
                "Column {name} takes no value but its own: {alter} SET GENERATED BY DEFAULT`"
            )),
            Some(existing) if !column.kind.takes(&existing.type_name) => Some(format!(
                "Column {name} is of type {}, not {}: change its type",
                existing.shown_type,
                column.kind.sql()
            )),
            Some(_) => None,
        });
    }
    let rules = found.guards.iter();
    misfits.extend(rules.filter(|guard| guard.kind == GuardKind::Rule).map(|rule| {
        let rule = &rule.name;
        format!("Rule {rule} on {table_name} prevents upserts: run `DROP RULE {rule} ON {table_name}`")
    }));
    misfits
}

/// Returns the GRANT statements for what the role lacks.
fn missing_grants(role: &str, table: &Table, found: &FoundTable) -> impl Iterator<Item = String> {
    let mut whole = Vec::new();
    let mut parts = Vec::new();
    for &privilege in table.privileges {
        let has = |privileges: &[String]| privileges.iter().any(|it| it == privilege);
        let is_used = |name: &str| privilege == "SELECT" || name != "id";
        let columns = table.columns.iter().filter(|column| is_used(column.name));
        let columns = columns.filter_map(|column| found.column(column.name));
        let (granted, lacking): (Vec<_>, Vec<_>) = columns.partition(|it| has(&it.privileges));
        if has(&found.privileges) || lacking.is_empty() {
            continue;
        }
        if granted.is_empty() {
            whole.push(privilege.to_owned());
        } else {
            let lacking: Vec<&str> = lacking.iter().map(|column| column.name.as_str()).collect();
            parts.push(format!("{privilege} ({})", lacking.join(", ")));
        }
    }
    whole.append(&mut parts);
    let missing = whole.join(", ");
    let name = table.name;
    (!missing.is_empty())
        .then(|| {
            format!(
                "Role {role} lacks {missing} on {name}: run `GRANT {missing} ON {name} TO {role}`"
            )
        })
        .into_iter()
}

/// Returns what a column that takes our type may refuse all the same.
fn column_finding(table: &Table, column: &Column, found: &FoundTable) -> Option<Finding> {
    let existing = found.column(column.name)?;
    let name = format!("{}.{}", table.name, column.name);
    let alter = format!(
        "run `ALTER TABLE {} ALTER COLUMN {}",
        table.name, column.name
    );
    if column.kind == Kind::Bigint && ["int2", "int4"].contains(&&*existing.type_name) {
        return Some(problem(format!(
            "Column {name} is of type {}, not bigint: run `datapass-pull migrate --yes`",
            existing.shown_type
        )));
    }
    if column.nullable && existing.not_null {
        return Some(problem(format!(
            "Column {name} refuses nulls, and a cycle may have no value for it: {alter} DROP NOT \
             NULL`"
        )));
    }
    if let Some(limit) = existing.max_chars
        && let Some(needed) = column.kind.max_chars().filter(|needed| *needed > limit)
    {
        return Some(problem(format!(
            "Column {name} takes {limit} characters, and a value may have {needed}: {alter} TYPE \
             {}`",
            column.kind.sql()
        )));
    }
    let is_numbered = column.name == "id" && column.kind == Kind::Count;
    if is_numbered && !existing.has_default && found.kind != 'v' {
        return Some(problem(format!(
            "Column {name} has no default: give it a sequence or make it an identity column"
        )));
    }
    if existing.is_checked {
        return Some(Finding::Warning(format!(
            "Column {name} is of the domain {}, whose checks may refuse a valid value",
            existing.shown_type
        )));
    }
    (column.kind == Kind::Instant && existing.is_naive()).then(|| {
        Finding::Warning(format!(
            "Column {name} is of type {}, taken as UTC: run `datapass-pull migrate --yes`",
            existing.shown_type
        ))
    })
}

/// Columns that others added and that a row of ours would leave null.
fn unfilled_columns(table: &Table, found: &FoundTable) -> impl Iterator<Item = String> {
    let is_ours = |name: &str| {
        table.columns.iter().any(|ours| ours.name == name)
            || name == OLD_ID && is_old_id(table, table.unique, found)
    };
    let columns = found.columns.iter();
    columns
        .filter(move |column| !is_ours(&column.name))
        .filter(|column| column.not_null && !column.has_default)
        .map(|column| {
            format!(
                "Column {}.{} refuses nulls, has no default and is not filled by a cycle: give it \
                 a default",
                table.name, column.name
            )
        })
}

/// Returns whether a column is there under the name that older versions of the application use.
fn is_old_id(table: &Table, column: &str, found: &FoundTable) -> bool {
    (table.name, column) == (REQUESTS.name, REQUESTS.unique)
        && found.column(column).is_none()
        && found.column(OLD_ID).is_some()
}

/// Returns what others added to a table and may refuse a row, keep it out or change it.
fn guard_findings(table: &Table, found: &FoundTable) -> Vec<Finding> {
    let name = table.name;
    let mut findings = Vec::new();
    if found.kind == 'v' {
        findings.push(Finding::Warning(format!(
            "{name} is a view: the table behind it is not checked"
        )));
    }
    let applies = |guard: &&Guard| guard.on_insert || table.privileges.contains(&"UPDATE");
    for guard in found.guards.iter().filter(applies) {
        let (guard_name, definition) = (&guard.name, guard.definition.as_deref());
        findings.extend(match (&guard.kind, definition.unwrap_or_default()) {
            (GuardKind::Trigger, _) => Some(Finding::Warning(format!(
                "Trigger {guard_name} on {name} runs before each row: a cycle fails when it keeps \
                 one out"
            ))),
            (GuardKind::Instead, _) => Some(problem(format!(
                "Rule {guard_name} on {name} replaces what is written: run `DROP RULE {guard_name} \
                 ON {name}`"
            ))),
            // It matters only to statements that the server refuses because of it.
            (GuardKind::Rule, _) => None,
            (GuardKind::Constraint, check) if check.replace('"', "") == "CHECK ((id = 1))" => None,
            (GuardKind::Constraint, definition) => Some(Finding::Warning(format!(
                "Constraint {guard_name} on {name} may refuse a valid entry: {definition}"
            ))),
        });
    }
    // Values of a key differ from row to row; so do nulls.
    let is_null = |column: &str| {
        table.columns.iter().all(|ours| ours.name != column)
            && found.column(column).is_some_and(|it| !it.has_default)
    };
    let never_collides = |column: &Option<String>| match column.as_deref() {
        Some("id" | "datapass_demande_id" | "run_id" | OLD_ID) => true,
        column => column == Some(table.unique) || column.is_some_and(is_null),
    };
    for index in &found.unique_indexes {
        let index_name = &index.name;
        if index.columns.iter().any(never_collides) {
            continue;
        }
        findings.push(if index.columns.contains(&None) {
            Finding::Warning(format!(
                "Unique index {index_name} on {name} may refuse a valid entry"
            ))
        } else {
            problem(format!(
                "Unique index {index_name} on {name} refuses a valid entry that shares its values \
                 with another: run `DROP INDEX {index_name}`"
            ))
        });
    }
    findings
}

/// Returns the problem that row-level security is for the role, unless its policies hide nothing.
fn row_security(role: &str, table: &Table, found: &FoundTable) -> Option<String> {
    let name = table.name;
    let needed = [('r', "SELECT"), ('a', "INSERT"), ('w', "UPDATE")];
    let is_open = |(command, privilege): (char, &str)| {
        !table.privileges.contains(&privilege)
            || found
                .open_commands
                .iter()
                .any(|it| [command, '*'].contains(it))
    };
    (found.hides_rows && !needed.into_iter().all(is_open)).then(|| {
        format!(
            "Row-level security may hide or refuse rows of {name} for role {role}: run `CREATE \
             POLICY datapass_pull ON {name} TO {role} USING (true)`"
        )
    })
}

fn problem(message: impl Into<String>) -> Finding {
    Finding::Problem(Failure::new(
        Stage::Prepare,
        Reason::DatabaseRefused,
        message,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statements of other commands, or about no table of ours.
    const NOT_PLANNED: &str = "accept_rejection catalog deleted_rows find_good_jobs find_rejections \
        good_jobs_columns jobs list_rejections notify_jobs prune_runs recent_runs reopen_rejection \
        requests_table schema server_encoding transaction_limits";

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
        let schema = |version, encoding: &str| Schema {
            role: "pull".to_owned(),
            version,
            encoding: encoding.to_owned(),
            tables: Vec::new(),
        };
        assert!(server_findings(&schema(140_000, "UTF8")).is_empty());
        let old = server_findings(&schema(130_014, "UTF8"));
        assert!(
            matches!(&old[..], [Finding::Problem(it)] if it.message.contains("use 14 or later"))
        );
        let latin = server_findings(&schema(150_000, "LATIN1"));
        assert!(matches!(&latin[..], [Finding::Warning(it)] if it.contains("encoding LATIN1")));
    }
}
