//! What the tables really look like, and what of it would make a cycle fail.
//!
//! Reads the catalog only, by the names that the statements of a cycle use, so it sees the tables
//! that the search path leads to.

use postgres::GenericClient;
use postgres::types::Type;

use crate::db::sqlstate;
use crate::db::tables::{Column, Kind, OLD_ID, REQUESTS, TABLES, Table};
use crate::error::{Failure, Stage};

/// What was found of our tables.
#[derive(Debug)]
pub struct Schema {
    /// Our tables that exist.
    pub tables: Vec<FoundTable>,
    /// The role that asked, quoted as an identifier.
    pub role: String,
}

/// A table that exists.
#[derive(Debug)]
pub struct FoundTable {
    /// Its name.
    pub name: String,
    /// The schema that it is found in.
    pub schema: String,
    /// Its columns, in their order.
    pub columns: Vec<FoundColumn>,
    /// The columns that a usable unique index covers alone.
    pub unique: Vec<String>,
    /// Which of SELECT, INSERT, UPDATE and DELETE the role has.
    pub rights: Vec<String>,
    /// Sequences behind defaults that the role may not use.
    pub forbidden_sequences: Vec<String>,
}

/// A column that exists.
#[derive(Debug, Clone)]
pub struct FoundColumn {
    /// Its name.
    pub name: String,
    /// Its type in `format_type`'s words, without a length.
    pub type_name: String,
    /// Whether it refuses nulls.
    pub not_null: bool,
    /// Its default's expression.
    pub default: Option<String>,
    /// Whether it is an identity or generated column.
    pub generated: bool,
}

impl Schema {
    pub(crate) fn table(&self, table: &Table) -> Option<&FoundTable> {
        self.tables.iter().find(|found| found.name == table.name)
    }

    /// Tells a person where the tables are, since a search path may lead to several schemas.
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
}

/// Reads from the catalog what our tables look like and what the role may do with them.
pub fn inspect(client: &mut impl GenericClient) -> Result<Schema, Failure> {
    read(client)
        .map_err(|error| sqlstate::failure(Stage::Prepare, "read the shape of the tables", &error))
}

fn read(client: &mut impl GenericClient) -> Result<Schema, postgres::Error> {
    let role = client.query_typed_one(include_str!("../../sql/catalog/role.sql"), &[])?;
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    let rows = client.query_typed(
        include_str!("../../sql/catalog/tables.sql"),
        &[(&names, Type::TEXT_ARRAY)],
    )?;
    let mut tables: Vec<(i64, FoundTable)> = Vec::new();
    for row in rows {
        let table = FoundTable {
            name: row.try_get("name")?,
            schema: row.try_get("schema")?,
            columns: Vec::new(),
            unique: Vec::new(),
            rights: row.try_get("rights")?,
            forbidden_sequences: Vec::new(),
        };
        tables.push((row.try_get("oid")?, table));
    }

    let oids: Vec<i64> = tables.iter().map(|(oid, _)| *oid).collect();
    let mut details = |statement| client.query_typed(statement, &[(&oids, Type::INT8_ARRAY)]);
    let columns = details(include_str!("../../sql/catalog/columns.sql"))?;
    let unique = details(include_str!("../../sql/catalog/unique.sql"))?;
    let sequences = details(include_str!("../../sql/catalog/sequences.sql"))?;
    for (oid, table) in &mut tables {
        for row in &columns {
            if row.try_get::<_, i64>("oid")? == *oid {
                table.columns.push(FoundColumn {
                    name: row.try_get("name")?,
                    type_name: row.try_get("type")?,
                    not_null: row.try_get("not_null")?,
                    default: row.try_get("default")?,
                    generated: row.try_get("generated")?,
                });
            }
        }
        for row in &unique {
            if row.try_get::<_, i64>("oid")? == *oid {
                table.unique.push(row.try_get("column")?);
            }
        }
        for row in &sequences {
            if row.try_get::<_, i64>("oid")? == *oid {
                table.forbidden_sequences.push(row.try_get("sequence")?);
            }
        }
    }

    Ok(Schema {
        tables: tables.into_iter().map(|(_, table)| table).collect(),
        role: role.try_get(0)?,
    })
}

/// Returns what would make a cycle fail and what to do about it, a sentence each; none is well.
///
/// The job table is judged where jobs are written, since a cycle can do without it.
pub fn problems(schema: &Schema) -> Vec<String> {
    let mut problems = Vec::new();
    for table in TABLES {
        match schema.table(table) {
            None => problems.push(format!(
                "Table {} is missing: run `datapass-pull migrate`",
                table.name
            )),
            Some(found) => {
                for column in table.columns {
                    problems.extend(column_problem(table, column, found));
                }
                problems.extend(unfilled_columns(table, found));
                if found.column(table.unique).is_some()
                    && !found.unique.iter().any(|column| column == table.unique)
                {
                    problems.push(format!(
                        "No unique index covers {}.{} alone: run `datapass-pull migrate`",
                        table.name, table.unique
                    ));
                }
                problems.extend(missing_rights(schema, found, table.rights));
            }
        }
    }
    problems
}

fn column_problem(table: &Table, column: &Column, found: &FoundTable) -> Option<String> {
    let name = format!("{}.{}", table.name, column.name);
    let Some(existing) = found.column(column.name) else {
        let renamed = table.name == REQUESTS.name
            && column.name == REQUESTS.unique
            && found.column(OLD_ID).is_some();
        return Some(if renamed {
            format!("Column {name} is still called {OLD_ID}: run `datapass-pull migrate --yes`")
        } else {
            format!("Column {name} is missing: run `datapass-pull migrate`")
        });
    };
    if !column.kind.takes(&existing.type_name) {
        let wanted = column.kind.sql();
        let found = &existing.type_name;
        let remedy = if column.kind == Kind::Instant && is_naive(existing) {
            "run `datapass-pull migrate --yes`".to_owned()
        } else {
            format!("change its type to {wanted}")
        };
        return Some(format!(
            "Column {name} is of type {found}, not {wanted}: {remedy}"
        ));
    }
    if column.nullable && existing.not_null {
        return Some(format!(
            "Column {name} refuses nulls, and a cycle may have no value for it: run `ALTER TABLE \
             {} ALTER COLUMN {} DROP NOT NULL`",
            table.name, column.name
        ));
    }
    let made_by_itself = existing.default.is_some() || existing.generated;
    if column.name == "id" && column.kind == Kind::Bigint && !made_by_itself {
        return Some(format!(
            "Column {name} has no default: give it a sequence or make it an identity column"
        ));
    }
    None
}

/// Tells whether a column is Rails' `timestamp without time zone`.
pub(crate) fn is_naive(column: &FoundColumn) -> bool {
    column.type_name == "timestamp without time zone"
}

/// Columns that others added and that a row of ours would leave null.
fn unfilled_columns(table: &Table, found: &FoundTable) -> Vec<String> {
    let old_id_to_come = found.column(REQUESTS.unique).is_none();
    found
        .columns
        .iter()
        .filter(|column| table.columns.iter().all(|ours| ours.name != column.name))
        .filter(|column| !(column.name == OLD_ID && old_id_to_come))
        .filter(|column| column.not_null && column.default.is_none() && !column.generated)
        .map(|column| {
            format!(
                "Column {}.{} refuses nulls, has no default and is not ours to fill: give it a \
                 default",
                table.name, column.name
            )
        })
        .collect()
}

fn missing_rights(schema: &Schema, found: &FoundTable, needed: &[&str]) -> Vec<String> {
    let missing: Vec<&str> = needed
        .iter()
        .copied()
        .filter(|right| !found.rights.iter().any(|has| has == right))
        .collect();
    let (name, role) = (&found.name, &schema.role);
    let mut problems = Vec::new();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        problems.push(format!(
            "Role {role} lacks {missing} on {name}: run `GRANT {missing} ON {name} TO {role}`"
        ));
    }
    if needed.contains(&"INSERT") {
        problems.extend(found.forbidden_sequences.iter().map(|sequence| {
            format!(
                "Role {role} lacks USAGE on {sequence}: run `GRANT USAGE ON SEQUENCE {sequence} \
                 TO {role}`"
            )
        }));
    }
    problems
}
