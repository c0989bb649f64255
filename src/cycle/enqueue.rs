//! Enqueue: one GoodJob row for each created row, in the same transaction.
//!
//! GoodJob documents no interface for other languages, so the columns of `good_jobs` are looked at
//! first, and a table of an unknown shape is refused. So is one that cannot be written to, or that
//! belongs to another application: no row stays without its job because of a table that is there.

use postgres::types::Type;
use serde_json::Value;

use crate::config::{Enqueue, JobArgument, JobConfig};
use crate::db::transaction::{Param, Tx};
use crate::error::{Failure, Reason, Result, Stage};

const FIND_GOOD_JOBS: &str = include_str!("../../sql/find_good_jobs.sql");
const GOOD_JOBS_COLUMNS: &str = include_str!("../../sql/good_jobs_columns.sql");
const JOBS: &str = include_str!("../../sql/jobs.sql");
const NOTIFY_JOBS: &str = include_str!("../../sql/notify_jobs.sql");

/// The columns that every job row fills.
const FILLED: &str = "id, active_job_id, job_class, queue_name, priority, serialized_params, \
                      scheduled_at, created_at, updated_at";
/// The columns that GoodJob 3.99 fills in addition, and without which it keeps no executions.
const DISCRETE: &str = "is_discrete, executions_count";
/// A column that came with GoodJob 4.15, which leaves those of [`DISCRETE`] null; before, they do no
/// harm.
const LOCK_TYPE: &str = "lock_type";

/// Where the jobs of created rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queue {
    /// Into the table of this name, with its schema, quoted for SQL.
    GoodJob {
        /// The name.
        table: String,
        /// Whether the columns of discrete executions are filled.
        discrete: bool,
    },
    /// Nowhere, by `--enqueue none`.
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

    /// Returns where jobs go, and why.
    pub fn describe(&self) -> String {
        match self {
            Self::GoodJob { table, discrete } => {
                let version = if *discrete { "3.99" } else { "4" };
                format!("{table}, as GoodJob {version} writes it")
            }
            Self::Nowhere => "nowhere (--enqueue none): rows wait as pending".to_owned(),
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
fn filled(discrete: bool) -> String {
    if discrete { format!("{FILLED}, {DISCRETE}") } else { FILLED.to_owned() }
}

/// Selects the rows that the table gets, its columns in the order of [`filled`].
fn rows(discrete: bool) -> String {
    format!("select {} from ({JOBS}) as job", filled(discrete))
}

/// Inserts those rows.
fn insert(table: &str, discrete: bool) -> String {
    format!("insert into {table} ({}) {}", filled(discrete), rows(discrete))
}

/// A column of `good_jobs`.
struct Column {
    name: String,
    must_be_filled: bool,
    may_be_filled: bool,
    /// Whether the table accepts inserts at all; a view may not.
    accepts_inserts: bool,
}

/// Chooses the queue by the settings and the table that is there.
pub fn choose(tx: &mut Tx<'_>, config: &JobConfig) -> Result<Queue> {
    if config.enqueue == Enqueue::None {
        return Ok(Queue::Nowhere);
    }
    let found = tx.row("look for good_jobs", FIND_GOOD_JOBS, &[], |row| {
        let (table, schema): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        let (has_usage, others): (bool, Option<String>) = (row.try_get(3)?, row.try_get(4)?);
        Ok((row.try_get::<_, i64>(0)?, table, schema, has_usage, others))
    })?;
    let Some((oid, table, schema, has_usage, others)) = found else {
        if config.enqueue == Enqueue::Auto {
            return Ok(Queue::NoTable);
        }
        let message =
            "There is no table good_jobs in the search path, and --enqueue good_job requires it";
        return Err(refused(message));
    };
    if let Some(others) = others {
        return Err(refused(format!(
            "{table} stands beside {others}, which is not the table that rows go to: its jobs \
             would be taken for rows of that one; leave {schema} out of the search path, or set \
             --enqueue none"
        )));
    }
    if !has_usage {
        return Err(refused(format!(
            "The role lacks USAGE on the schema of {table}; run GRANT USAGE ON SCHEMA {schema}, \
             leave it out of the search path, or set --enqueue none"
        )));
    }
    let oid = [(&oid as _, Type::INT8)];
    let columns = tx.rows("read the columns of good_jobs", GOOD_JOBS_COLUMNS, &oid, |row| {
        Ok(Column {
            name: row.try_get(0)?,
            must_be_filled: row.try_get(1)?,
            may_be_filled: row.try_get(2)?,
            accepts_inserts: row.try_get(3)?,
        })
    })?;
    let discrete = recognize(&columns)?;
    Ok(Queue::GoodJob { table, discrete })
}

/// Recognizes the table by its columns, and refuses one that jobs cannot be written to; returns
/// whether the columns of discrete executions are filled.
fn recognize(columns: &[Column]) -> Result<bool> {
    let find = |name: &str| columns.iter().find(|column| column.name == name);
    let has = |name: &str| find(name).is_some();
    let discrete = DISCRETE.split(", ").all(has) && !has(LOCK_TYPE);
    let filled = filled(discrete);
    let filled: Vec<&str> = filled.split(", ").collect();
    let lacks: Vec<&str> = FILLED.split(", ").filter(|name| !has(name)).collect();
    let requires = columns.iter().filter(|column| column.must_be_filled);
    let requires = requires.map(|column| column.name.as_str());
    let requires: Vec<&str> = requires.filter(|name| !filled.contains(name)).collect();
    let mut problems = Vec::new();
    for (verb, names) in [("lacks", lacks), ("requires", requires)] {
        if !names.is_empty() {
            problems.push(format!("it {verb} {}", names.join(", ")));
        }
    }
    if !problems.is_empty() {
        return Err(refused(format!(
            "The table good_jobs has an unknown shape; {}; GoodJob 3.99 and 4 are known; else set \
             --enqueue none",
            problems.join("; ")
        )));
    }
    if !columns.iter().all(|column| column.accepts_inserts) {
        return Err(refused(
            "good_jobs is not a table and accepts no inserts; let the search path lead to \
             GoodJob's own table, or set --enqueue none",
        ));
    }
    let is_denied = |name: &&str| find(name).is_some_and(|column| !column.may_be_filled);
    if filled.iter().any(is_denied) {
        return Err(refused(
            "The role lacks INSERT on good_jobs; run GRANT INSERT ON good_jobs, or set --enqueue \
             none",
        ));
    }
    Ok(discrete)
}

/// Enqueues a job for each id, and wakes a waiting worker at commit.
pub fn enqueue(tx: &mut Tx<'_>, config: &JobConfig, queue: &Queue, ids: &[i64]) -> Result<()> {
    let Queue::GoodJob { table, discrete } = queue else {
        return Ok(());
    };
    if ids.is_empty() {
        return Ok(());
    }
    let app = app_of_record(config);
    let params = params(config, &ids, &app);
    let enqueued = tx.execute("enqueue the jobs", &insert(table, *discrete), &params)?;
    if enqueued != ids.len() as u64 {
        return Err(refused(
            "The table good_jobs did not store a job for each row, so nothing was written at all: \
             look for a trigger or a rule on it",
        ));
    }
    tx.execute("notify the workers", NOTIFY_JOBS, &[(&config.queue, Type::TEXT)]).map(drop)
}

/// Lets the server plan the insert; returns the row that the record with the id 1 would get, as the
/// same statement makes it, for comparison; none where rows get no job.
pub fn preview(tx: &mut Tx<'_>, config: &JobConfig, queue: &Queue) -> Result<Option<Value>> {
    let Queue::GoodJob { table, discrete } = queue else {
        return Ok(None);
    };
    let (ids, app) = (&[1][..], app_of_record(config));
    let params = params(config, &ids, &app);
    let explain = format!("explain {}", insert(table, *discrete));
    tx.execute("plan to enqueue a job", &explain, &params)?;
    let select = format!("select to_json(job) from ({}) as job", rows(*discrete));
    tx.row("make a job", &select, &params, |row| row.try_get(0))
}

/// Returns the parameters of `jobs.sql`.
fn params<'a>(config: &'a JobConfig, ids: &'a &[i64], app: &'a Option<&str>) -> [Param<'a>; 5] {
    [
        (ids, Type::INT8_ARRAY),
        (&config.class, Type::TEXT),
        (&config.queue, Type::TEXT),
        (app, Type::TEXT),
        (&config.priority, Type::INT4),
    ]
}

/// Returns the application in the record's GlobalID; none when jobs get a bare id.
fn app_of_record(config: &JobConfig) -> Option<&str> {
    match config.argument {
        JobArgument::Record => Some(&config.app),
        JobArgument::Id => None,
    }
}

fn refused(message: impl Into<String>) -> Failure {
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
                accepts_inserts: true,
            })
            .collect()
    }

    #[test]
    fn columns_of_each_good_job_version_are_recognized() {
        let must = ["id", "created_at", "updated_at"];
        let names = |text: &'static str| text.split(", ").collect::<Vec<_>>();
        let discrete_names = names(DISCRETE);
        let with = |more: &[&'static str]| [&names(FILLED)[..], more].concat();
        let shape_of = |names: &[&str], must: &[&str]| recognize(&columns(names, must));
        let both = [&discrete_names[..], &[LOCK_TYPE]].concat();
        for (more, discrete) in [
            (&discrete_names[..], true),
            (&both, false),
            (&[], false),
            // With only one of the two, neither is filled, so it must not be required.
            (&discrete_names[..1], false),
        ] {
            assert_eq!(shape_of(&with(more), &must).unwrap(), discrete, "{more:?}");
        }
        for (names, must, problem) in [
            (with(&discrete_names[..1]), &discrete_names[..1], "requires is_discrete"),
            (vec!["id", "priority"], &must, "lacks active_job_id, job_class"),
        ] {
            let error = shape_of(&names, must).unwrap_err();
            assert!(error.message.contains(problem), "{}", error.message);
            assert_eq!(error.reason, Reason::EnqueueRefused);
        }
    }
}
