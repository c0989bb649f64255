//! The statements that upgrade an existing table to our schema.
//!
//! They follow from the catalog alone, so that a table that was changed half-way, by a Rails
//! migration or by hand, gets what it lacks and nothing twice. A table of our schema needs none.

use postgres::Transaction;
use postgres::types::{FromSqlOwned, Type};

use super::{failed, refused};
use crate::db::schema::{FoundTable, Schema};
use crate::db::tables::{Column, Kind, OLD_ID, REQUESTS, SKIP_BEFORE, TABLES, Table, WATERMARKS};
use crate::error::Failure;

const INDEX_OF: &str = include_str!("../../../sql/migrate/index_of.sql");
const LEFT_IDS: &str = include_str!("../../../sql/migrate/left_ids.sql");
const WATERMARK_IDS: &str = include_str!("../../../sql/migrate/watermark_ids.sql");
const WATERMARK_CHECK: &str = include_str!("../../../sql/migrate/watermark_check.sql");

/// A statement that changes a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) sql: String,
    /// Whether it renames or retypes a column, which needs `--yes`.
    pub(crate) guarded: bool,
    /// What to do when a unique index cannot be created.
    pub(crate) on_duplicates: Option<String>,
}

impl Step {
    fn free(sql: String) -> Self {
        Self {
            sql,
            guarded: false,
            on_duplicates: None,
        }
    }

    fn guarded(sql: String) -> Self {
        Self {
            guarded: true,
            ..Self::free(sql)
        }
    }
}

/// Returns the steps that the existing tables need, in their order.
pub(crate) fn steps(
    transaction: &mut Transaction<'_>,
    schema: &Schema,
) -> Result<Vec<Step>, Failure> {
    let mut steps = Vec::new();
    for table in TABLES {
        let Some(found) = schema.table(table) else {
            continue;
        };
        let is_requests = table.name == REQUESTS.name;
        let renamed = is_requests && rename(transaction, found, &mut steps)?;
        for column in table.columns {
            if !(renamed && column.name == REQUESTS.unique) {
                steps.extend(column_steps(table, column, found));
            }
        }
        // An index follows its column when that is renamed.
        let covered = found.is_unique(table.unique) || (renamed && found.is_unique(OLD_ID));
        if !covered {
            steps.push(unique_index(transaction, table)?);
        } else if is_requests && (renamed || found.column(OLD_ID).is_none()) {
            rename_index(transaction, &mut steps)?;
        }
        if table.name == WATERMARKS.name {
            if found.column(SKIP_BEFORE).is_none() {
                let table = table.name;
                steps.push(Step::free(format!(
                    "UPDATE {table} SET {SKIP_BEFORE} = last_validated_at"
                )));
            }
            one_watermark(transaction, &mut steps)?;
        }
    }
    Ok(steps)
}

/// `external_request_id` becomes `datapass_authorization_id`.
fn rename(
    transaction: &mut Transaction<'_>,
    found: &FoundTable,
    steps: &mut Vec<Step>,
) -> Result<bool, Failure> {
    let (table, column) = (REQUESTS.name, REQUESTS.unique);
    let renamed = found.column(OLD_ID).is_some() && found.column(column).is_none();
    if renamed {
        steps.push(Step::guarded(format!(
            "ALTER TABLE {table} RENAME COLUMN {OLD_ID} TO {column}"
        )));
    }
    let both = found.column(OLD_ID).is_some() && !renamed;
    if both && ask::<bool>(transaction, LEFT_IDS, &[])? {
        return Err(refused(format!(
            "Table {table} has rows whose id is in {OLD_ID} alone, beside a column {column}: copy \
             it there, or drop the empty column, then migrate again"
        )));
    }
    Ok(renamed)
}

/// The unique index of the renamed column gets the name that Rails would give it.
fn rename_index(transaction: &mut Transaction<'_>, steps: &mut Vec<Step>) -> Result<(), Failure> {
    let table = REQUESTS.name;
    let (old, new) = (
        index_name(table, OLD_ID),
        index_name(table, REQUESTS.unique),
    );
    if has_index(transaction, table, &old)? && !has_index(transaction, table, &new)? {
        steps.push(Step::free(format!("ALTER INDEX {old} RENAME TO {new}")));
    }
    Ok(())
}

fn column_steps(table: &Table, column: &Column, found: &FoundTable) -> Vec<Step> {
    let mut steps = Vec::new();
    let (table_name, name) = (table.name, column.name);
    let alter = format!("ALTER TABLE {table_name} ALTER COLUMN {name}");
    let Some(existing) = found.column(name) else {
        // Without a default it must be nullable: there may be rows.
        let kind = column.kind.sql();
        let definition = match column.default {
            Some(default) => format!("{kind} NOT NULL DEFAULT {default}"),
            None if name == "id" => "bigserial".to_owned(),
            None => kind.to_owned(),
        };
        return vec![Step::free(format!(
            "ALTER TABLE {table_name} ADD COLUMN {name} {definition}"
        ))];
    };
    if column.kind == Kind::Instant && existing.is_naive() {
        steps.push(Step::guarded(format!(
            "{alter} TYPE timestamptz USING {name} AT TIME ZONE 'UTC'"
        )));
    }
    // Rails numbers with eight bytes, or with four where an id of DataPass may need eight.
    let wanted = match column.kind {
        Kind::Bigint | Kind::Count => "int8",
        Kind::Integer => "int4",
        _ => &existing.type_name,
    };
    if ["int2", "int4", "int8"].contains(&&*existing.type_name) && existing.type_name != wanted {
        let wanted = column.kind.sql();
        steps.push(Step::guarded(format!("{alter} TYPE {wanted}")));
    }
    // What the Rails application demands of its own table is for its people to change.
    if table_name != REQUESTS.name {
        if column.nullable && existing.not_null {
            steps.push(Step::free(format!("{alter} DROP NOT NULL")));
        }
        if let (Some(default), false) = (column.default, existing.has_default) {
            steps.push(Step::free(format!("{alter} SET DEFAULT {default}")));
        }
    }
    steps
}

fn unique_index(transaction: &mut Transaction<'_>, table: &Table) -> Result<Step, Failure> {
    let (name, column) = (table.name, table.unique);
    let mut index = index_name(name, column);
    if has_index(transaction, name, &index)? {
        // One that is not unique, or not of this column alone, has the name; PostgreSQL finds another.
        index.clear();
    }
    Ok(Step {
        on_duplicates: Some(format!(
            "values of {name}.{column} occur more than once; find them with `SELECT {column}, \
             count(*) FROM {name} GROUP BY 1 HAVING count(*) > 1`"
        )),
        ..Step::free(format!("CREATE UNIQUE INDEX {index} ON {name} ({column})"))
    })
}

/// Makes an existing row the one with the id 1, and the only one that can be: Rails numbers it as
/// it likes and allows for more.
fn one_watermark(transaction: &mut Transaction<'_>, steps: &mut Vec<Step>) -> Result<(), Failure> {
    let table = WATERMARKS.name;
    match ask::<Vec<Option<i64>>>(transaction, WATERMARK_IDS, &[])?[..] {
        [] | [Some(1)] => {}
        [_] => steps.push(Step::free(format!("UPDATE {table} SET id = 1"))),
        [..] => {
            return Err(refused(format!(
                "Table {table} has several rows and can have only one: delete the others, then \
                 migrate again"
            )));
        }
    }
    if !ask::<bool>(transaction, WATERMARK_CHECK, &[])? {
        steps.push(Step::free(format!(
            "ALTER TABLE {table} ADD CONSTRAINT {table}_one_row CHECK (id = 1)"
        )));
    }
    Ok(())
}

/// Rails' name for the index of a column.
fn index_name(table: &str, column: &str) -> String {
    format!("index_{table}_on_{column}")
}

fn has_index(transaction: &mut Transaction<'_>, table: &str, index: &str) -> Result<bool, Failure> {
    ask(transaction, INDEX_OF, &[table, index])
}

/// Returns the one value that a query answers.
fn ask<T: FromSqlOwned>(
    transaction: &mut Transaction<'_>,
    sql: &str,
    texts: &[&str],
) -> Result<T, Failure> {
    let params: Vec<_> = texts.iter().map(|text| (text as _, Type::TEXT)).collect();
    let row = transaction.query_typed_one(sql, &params).map_err(failed)?;
    row.try_get(0).map_err(failed)
}
