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
        /// The columns that a job fills.
        filled: String,
    },
    /// Nowhere, by `--enqueue none`.
    Nowhere,
    /// Nowhere, because there is no `good_jobs`.
    NoTable,
}

impl Queue {
    /// Returns how many jobs so many rows get.
    pub fn jobs_of(&self, rows: u64) -> u64 {
        match self {
            Self::GoodJob { .. } => rows,
            Self::Nowhere | Self::NoTable => 0,
        }
    }

    /// Returns where jobs go, and why.
    pub fn describe(&self) -> String {
        match self {
            Self::GoodJob { table, filled } => {
                let version = if filled == FILLED { "4" } else { "3.99" };
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

/// Selects the rows that the table gets.
fn rows(filled: &str) -> String {
    format!("select {filled} from ({JOBS}) as job")
}

/// Inserts those rows.
fn insert(table: &str, filled: &str) -> String {
    format!("insert into {table} ({filled}) {}", rows(filled))
}

/// The table of jobs, as the catalog has it.
#[derive(Default)]
struct GoodJobs {
    /// With its schema, quoted for SQL.
    table: String,
    schema: String,
    has_usage: bool,
    /// Another application's table of requests beside it.
    others: Option<String>,
    columns: Vec<String>,
    /// Those that must be filled, and those that may not be.
    required: Vec<String>,
    denied: Vec<String>,
    /// Whether the table accepts inserts at all; a view may not.
    accepts_inserts: bool,
}

/// Chooses the queue by the settings and the table that is there.
pub fn choose(tx: &mut Tx<'_>, config: &JobConfig) -> Result<Queue> {
    if config.enqueue == Enqueue::None {
        return Ok(Queue::Nowhere);
    }
    let mut found = tx.rows("look for good_jobs", FIND_GOOD_JOBS, &[], |row| {
        Ok(GoodJobs {
            table: row.try_get(0)?,
            schema: row.try_get(1)?,
            has_usage: row.try_get(2)?,
            others: row.try_get(3)?,
            columns: row.try_get(4)?,
            required: row.try_get(5)?,
            denied: row.try_get(6)?,
            accepts_inserts: row.try_get(7)?,
        })
    })?;
    match found.pop() {
        Some(found) => {
            let filled = found.filled();
            found.refusal(&filled).map_or(Ok(()), |why| Err(refused(why)))?;
            Ok(Queue::GoodJob { table: found.table, filled })
        }
        None if config.enqueue == Enqueue::Auto => Ok(Queue::NoTable),
        None => Err(refused(
            "There is no table good_jobs in the search path, and --enqueue good_job requires it",
        )),
    }
}

impl GoodJobs {
    fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|it| it == column)
    }

    /// Returns the columns that a job fills.
    fn filled(&self) -> String {
        let is_discrete = DISCRETE.split(", ").all(|it| self.has(it)) && !self.has(LOCK_TYPE);
        if is_discrete { format!("{FILLED}, {DISCRETE}") } else { FILLED.to_owned() }
    }

    /// Returns why jobs cannot be written to it; none when they can.
    fn refusal(&self, filled: &str) -> Option<String> {
        let Self { table, schema, .. } = self;
        if let Some(others) = &self.others {
            return Some(format!(
                "{table} stands beside {others}, which is not the table that rows go to: its jobs \
                 would be taken for rows of that one; leave {schema} out of the search path, or set \
                 --enqueue none"
            ));
        }
        if !self.has_usage {
            return Some(format!(
                "The role lacks USAGE on the schema of {table}; run GRANT USAGE ON SCHEMA {schema}, \
                 leave it out of the search path, or set --enqueue none"
            ));
        }
        let filled: Vec<&str> = filled.split(", ").collect();
        let lacks: Vec<&str> = FILLED.split(", ").filter(|it| !self.has(it)).collect();
        let required = self.required.iter().map(String::as_str);
        let requires: Vec<&str> = required.filter(|it| !filled.contains(it)).collect();
        let problems = [("lacks", lacks), ("requires", requires)].into_iter();
        let problems = problems.filter(|(_, names)| !names.is_empty());
        let problems = problems.map(|(verb, names)| format!("it {verb} {}", names.join(", ")));
        let problems = problems.collect::<Vec<_>>().join("; ");
        if !problems.is_empty() {
            return Some(format!(
                "The table good_jobs has an unknown shape; {problems}; GoodJob 3.99 and 4 are known; \
                 else set --enqueue none"
            ));
        }
        let refusal = if !self.accepts_inserts {
            "good_jobs is not a table and accepts no inserts; let the search path lead to GoodJob's \
             own table, or set --enqueue none"
        } else if filled.iter().any(|name| self.denied.iter().any(|it| it == name)) {
            "The role lacks INSERT on good_jobs; run GRANT INSERT ON good_jobs, or set --enqueue none"
        } else {
            return None;
        };
        Some(refusal.to_owned())
    }
}

/// Enqueues a job for each id, and wakes a waiting worker at commit.
pub fn enqueue(tx: &mut Tx<'_>, config: &JobConfig, queue: &Queue, ids: &[i64]) -> Result<()> {
    let Queue::GoodJob { table, filled } = queue else {
        return Ok(());
    };
    if ids.is_empty() {
        return Ok(());
    }
    let app = app_of_record(config);
    let params = params(config, &ids, &app);
    let enqueued = tx.execute("enqueue the jobs", &insert(table, filled), &params)?;
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
    let Queue::GoodJob { table, filled } = queue else {
        return Ok(None);
    };
    let (ids, app) = (&[1][..], app_of_record(config));
    let params = params(config, &ids, &app);
    let explain = format!("explain {}", insert(table, filled));
    tx.execute("plan to enqueue a job", &explain, &params)?;
    let select = format!("select to_json(job) from ({}) as job", rows(filled));
    Ok(tx.rows("make a job", &select, &params, |row| row.try_get(0))?.pop())
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

    #[test]
    fn columns_of_each_good_job_version_are_recognized() {
        let names = |text: &'static str| text.split(", ").collect::<Vec<_>>();
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let table = |columns: &[&str], required: &[&str]| GoodJobs {
            columns: owned(columns),
            required: owned(required),
            has_usage: true,
            accepts_inserts: true,
            ..GoodJobs::default()
        };
        let must = ["id", "created_at", "updated_at"];
        let discrete_names = names(DISCRETE);
        let with = |more: &[&'static str]| [&names(FILLED)[..], more].concat();
        let both = [&discrete_names[..], &[LOCK_TYPE]].concat();
        for (more, discrete) in [
            (&discrete_names[..], true),
            (&both, false),
            (&[], false),
            // With only one of the two, neither is filled, so it must not be required.
            (&discrete_names[..1], false),
        ] {
            let found = table(&with(more), &must);
            let filled = found.filled();
            assert_eq!(filled != FILLED, discrete, "{more:?}");
            assert_eq!(found.refusal(&filled), None, "{more:?}");
        }
        for (names, must, problem) in [
            (with(&discrete_names[..1]), &discrete_names[..1], "requires is_discrete"),
            (vec!["id", "priority"], &must, "lacks active_job_id, job_class"),
        ] {
            let found = table(&names, must);
            let refusal = found.refusal(&found.filled()).unwrap();
            assert!(refusal.contains(problem), "{refusal}");
        }
    }
}
