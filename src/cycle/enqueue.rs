//! The hand-off: one GoodJob row for each created row, in the same transaction.
//!
//! GoodJob documents no interface for other languages, so the columns of `good_jobs` are looked at
//! first, and a table of a shape that is not known is refused rather than guessed at. So is one
//! that cannot be written, or that is not for these rows: no row is left without its job because of
//! a table that is there.

use log::warn;
use postgres::types::Type;
use serde_json::Value;

use crate::config::{Enqueue, JobArgument, JobConfig};
use crate::db::transaction::{Tx, TxError};
use crate::error::{Failure, Reason, Result, Stage};

const FIND_GOOD_JOBS: &str = include_str!("../../sql/find_good_jobs.sql");
const GOOD_JOBS_COLUMNS: &str = include_str!("../../sql/good_jobs_columns.sql");
const JOBS: &str = include_str!("../../sql/jobs.sql");
const NOTIFY_JOBS: &str = include_str!("../../sql/notify_jobs.sql");

/// The model whose records the jobs are about.
const MODEL: &str = "ProactiviteRequest";

/// The columns that every job row fills.
const FILLED: [&str; 9] = [
    "id",
    "active_job_id",
    "job_class",
    "queue_name",
    "priority",
    "serialized_params",
    "scheduled_at",
    "created_at",
    "updated_at",
];
/// The columns that GoodJob 3.99 fills besides, and without which it keeps no executions.
const DISCRETE: [&str; 2] = ["is_discrete", "executions_count"];
/// A column that came with GoodJob 4.15. From then on it leaves those of [`DISCRETE`] null; before,
/// they do no harm.
const LOCK_TYPE: &str = "lock_type";

/// Where the jobs of created rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queue {
    /// Into the table of this name, schema and all, quoted as SQL wants it.
    GoodJob {
        /// The name.
        table: String,
        /// Whether the columns of discrete executions are filled.
        discrete: bool,
    },
    /// Nowhere, because it was asked so.
    Nowhere,
    /// Nowhere, because there is no `good_jobs`.
    NoTable,
}

impl Queue {
    /// Returns how many jobs so many rows get.
    pub fn jobs_of(&self, rows: usize) -> u64 {
        match self {
            Self::GoodJob { .. } => rows as u64,
            Self::Nowhere | Self::NoTable => 0,
        }
    }

    /// Tells a person where jobs go, and why.
    pub fn describe(&self) -> String {
        match self {
            Self::GoodJob { table, discrete } => {
                let version = if *discrete { "3.99" } else { "4" };
                format!("{table}, as GoodJob {version} writes it")
            }
            Self::Nowhere => "nowhere, as asked: rows wait as pending".to_owned(),
            Self::NoTable => {
                "nowhere, there is no good_jobs in the search path: rows wait as pending".to_owned()
            }
        }
    }

    /// Returns the word that runs and `status` show.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::GoodJob { .. } => "good_job",
            Self::Nowhere | Self::NoTable => "none",
        }
    }
}

/// Returns the columns that a job fills.
fn filled(discrete: bool) -> Vec<&'static str> {
    let discrete: &[&str] = if discrete { &DISCRETE } else { &[] };
    [&FILLED, discrete].concat()
}

/// Selects the rows that the table gets, its columns in the order of [`filled`].
fn rows(discrete: bool) -> String {
    format!(
        "SELECT {} FROM ({JOBS}) AS job",
        filled(discrete).join(", ")
    )
}

/// A column of `good_jobs`, and what matters of it to one who inserts.
struct Column {
    name: String,
    must_be_filled: bool,
    may_be_filled: bool,
    /// Whether the table takes inserts at all; a view may not.
    takes_inserts: bool,
}

/// Chooses the queue by what the settings ask and the table is like.
pub fn choose(tx: &mut Tx<'_>, config: &JobConfig) -> Result<Queue, TxError> {
    if config.enqueue == Enqueue::None {
        return Ok(Queue::Nowhere);
    }
    let found = tx.rows("look for good_jobs", FIND_GOOD_JOBS, &[])?;
    let Some(found) = found.first() else {
        return match config.enqueue {
            Enqueue::GoodJob => Err(refused(
                "There is no table good_jobs in the search path, and --enqueue good_job demands it",
            )
            .into()),
            _ => Ok(Queue::NoTable),
        };
    };
    let (oid, table, schema): (i64, String, String) = (found.get(0), found.get(1), found.get(2));
    let (may_be_entered, others): (bool, Option<String>) = (found.get(3), found.get(4));
    if let Some(others) = others {
        return Err(refused(&format!(
            "{table} stands beside {others}, which is not the table that rows go to: its jobs \
             would be taken for rows of that one; leave {schema} out of the search path, or set \
             --enqueue none"
        ))
        .into());
    }
    if !may_be_entered {
        return Err(refused(&format!(
            "The role may not use the schema of {table}; GRANT USAGE ON SCHEMA {schema}, leave it \
             out of the search path, or set --enqueue none"
        ))
        .into());
    }
    let columns: Vec<Column> = tx
        .rows(
            "look at good_jobs",
            GOOD_JOBS_COLUMNS,
            &[(&oid, Type::INT8)],
        )?
        .iter()
        .map(|row| Column {
            name: row.get(0),
            must_be_filled: row.get(1),
            may_be_filled: row.get(2),
            takes_inserts: row.get(3),
        })
        .collect();
    let discrete = recognize(&columns)?;
    Ok(Queue::GoodJob { table, discrete })
}

/// Recognizes the table by its columns, and refuses one that jobs cannot be written to; tells
/// whether the columns of discrete executions are filled.
fn recognize(columns: &[Column]) -> Result<bool> {
    let find = |name: &str| columns.iter().find(|column| column.name == name);
    let has = |name: &str| find(name).is_some();
    let discrete = DISCRETE.into_iter().all(has) && !has(LOCK_TYPE);
    let filled = filled(discrete);
    let names = |columns: Vec<&str>| columns.join(", ");
    let lacks: Vec<&str> = FILLED.into_iter().filter(|name| !has(name)).collect();
    let demands: Vec<&str> = columns
        .iter()
        .filter(|column| column.must_be_filled)
        .map(|column| column.name.as_str())
        .filter(|name| !filled.contains(name))
        .collect();
    if !lacks.is_empty() || !demands.is_empty() {
        let mut message = "The table good_jobs has an unknown shape".to_owned();
        if !lacks.is_empty() {
            message.push_str(&format!("; it lacks {}", names(lacks)));
        }
        if !demands.is_empty() {
            message.push_str(&format!("; it demands {}", names(demands)));
        }
        message.push_str("; GoodJob 3.99 and 4 are known; else set --enqueue none");
        return Err(refused(&message));
    }
    if !columns.iter().all(|column| column.takes_inserts) {
        return Err(refused(
            "good_jobs is no table but something that takes no inserts; let the search path lead \
             to GoodJob's own table, or set --enqueue none",
        ));
    }
    if filled
        .iter()
        .any(|name| find(name).is_some_and(|column| !column.may_be_filled))
    {
        return Err(refused(
            "The role may not insert into good_jobs; GRANT INSERT ON good_jobs, or set --enqueue none",
        ));
    }
    Ok(discrete)
}

/// Enqueues a job for each id, and wakes a waiting worker at commit.
pub fn enqueue(
    tx: &mut Tx<'_>,
    config: &JobConfig,
    queue: &Queue,
    ids: &[i64],
) -> Result<u64, TxError> {
    if *queue == Queue::NoTable && !ids.is_empty() {
        warn!(stage = Stage::Create.as_str();
            "There is no table good_jobs: {} rows are created without a job, and wait as pending",
            ids.len());
    }
    let Queue::GoodJob { table, discrete } = queue else {
        return Ok(0);
    };
    if ids.is_empty() {
        return Ok(0);
    }
    let insert = format!(
        "INSERT INTO {table} ({}) {}",
        filled(*discrete).join(", "),
        rows(*discrete)
    );
    let enqueued = tx.execute(
        "enqueue the jobs",
        &insert,
        &[
            (&ids, Type::INT8_ARRAY),
            (&config.class, Type::TEXT),
            (&config.queue, Type::TEXT),
            (&global_id(config), Type::TEXT),
        ],
    )?;
    if enqueued != ids.len() as u64 {
        return Err(refused("The table good_jobs took fewer jobs than rows were created").into());
    }
    tx.rows(
        "notify the workers",
        NOTIFY_JOBS,
        &[(&config.queue, Type::TEXT)],
    )?;
    Ok(enqueued)
}

/// Returns the row that the record of this id would get, as the same statement makes it, for a
/// person to compare; none where rows get no job.
pub fn preview(
    tx: &mut Tx<'_>,
    config: &JobConfig,
    queue: &Queue,
    id: i64,
) -> Result<Option<Value>, TxError> {
    let Queue::GoodJob { discrete, .. } = queue else {
        return Ok(None);
    };
    let rows = tx.rows(
        "make a job",
        &format!("SELECT to_json(job) FROM ({}) AS job", rows(*discrete)),
        &[
            (&vec![id], Type::INT8_ARRAY),
            (&config.class, Type::TEXT),
            (&config.queue, Type::TEXT),
            (&global_id(config), Type::TEXT),
        ],
    )?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// Returns how the argument begins, as Active Job serializes a record; none for a bare id.
fn global_id(config: &JobConfig) -> Option<String> {
    match config.argument {
        JobArgument::Record => Some(format!("gid://{}/{MODEL}/", config.app)),
        JobArgument::Id => None,
    }
}

fn refused(message: &str) -> Failure {
    Failure::new(Stage::Create, Reason::EnqueueRefused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str], must_be_filled: &[&str]) -> Vec<Column> {
        names
            .iter()
            .map(|name| Column {
                name: name.to_string(),
                must_be_filled: must_be_filled.contains(name),
                may_be_filled: true,
                takes_inserts: true,
            })
            .collect()
    }

    #[test]
    fn shapes() {
        let must = ["id", "created_at", "updated_at"];
        let with = |more: &[&'static str]| [&FILLED[..], more].concat();
        let shape_of = |names: &[&str], must: &[&str]| recognize(&columns(names, must));
        let both = [&DISCRETE[..], &[LOCK_TYPE]].concat();
        for (more, discrete) in [
            (&DISCRETE[..], true),
            (&both, false),
            (&[], false),
            // With only one of the two, neither is filled, so it must not be demanded.
            (&DISCRETE[..1], false),
        ] {
            assert_eq!(shape_of(&with(more), &must).unwrap(), discrete, "{more:?}");
        }
        for (names, must, told) in [
            (with(&DISCRETE[..1]), &DISCRETE[..1], "demands is_discrete"),
            (
                vec!["id", "priority"],
                &must,
                "lacks active_job_id, job_class",
            ),
        ] {
            let error = shape_of(&names, must).unwrap_err();
            assert!(error.message.contains(told), "{}", error.message);
            assert_eq!(error.reason, Reason::EnqueueRefused);
        }
    }
}
