//! The hand-off: one GoodJob row for each created row, in the same transaction.
//!
//! GoodJob documents no interface for other languages, so the columns of `good_jobs` are looked at
//! first, and a table of a shape that is not known is refused rather than guessed at.

use log::warn;
use postgres::types::Type;
use serde_json::{Value, json};

use crate::config::{Enqueue, JobArgument, JobConfig};
use crate::error::{Failure, Reason, Result, Stage};
use crate::store::{Tx, TxError};

const GOOD_JOBS_COLUMNS: &str = include_str!("../sql/good_jobs_columns.sql");
const GOOD_JOBS_RIGHT: &str = include_str!("../sql/good_jobs_right.sql");
const ENQUEUE_JOBS: &str = include_str!("../sql/enqueue_jobs.sql");
const ENQUEUE_DISCRETE_JOBS: &str = include_str!("../sql/enqueue_discrete_jobs.sql");
const NOTIFY_JOBS: &str = include_str!("../sql/notify_jobs.sql");

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
/// The columns of discrete executions, filled where both are there.
const DISCRETE: [&str; 2] = ["is_discrete", "executions_count"];

/// Where the jobs of created rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Into `good_jobs`, with the columns of discrete executions.
    DiscreteGoodJob,
    /// Into `good_jobs`, without them.
    GoodJob,
    /// Nowhere, because it was asked so.
    Nowhere,
    /// Nowhere, because there is no `good_jobs`.
    NoTable,
}

impl Queue {
    /// Tells whether created rows get a job.
    pub fn enqueues(self) -> bool {
        matches!(self, Self::DiscreteGoodJob | Self::GoodJob)
    }

    /// Tells a person where jobs go.
    pub fn describe(self) -> &'static str {
        match self {
            Self::DiscreteGoodJob => "good_jobs, with the columns of discrete executions",
            Self::GoodJob => "good_jobs",
            Self::Nowhere => "nowhere, as asked: rows wait as pending",
            Self::NoTable => "nowhere, there is no good_jobs: rows wait as pending",
        }
    }

    /// Returns the word that runs and `status` show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DiscreteGoodJob | Self::GoodJob => "good_job",
            Self::Nowhere | Self::NoTable => "none",
        }
    }
}

/// Chooses the queue by what the settings ask and the table is like.
pub fn choose(tx: &mut Tx<'_>, config: &JobConfig) -> Result<Queue, TxError> {
    if config.enqueue == Enqueue::None {
        return Ok(Queue::Nowhere);
    }
    let columns: Vec<(String, bool)> = tx
        .rows("look at good_jobs", GOOD_JOBS_COLUMNS, &[])?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    if columns.is_empty() {
        return match config.enqueue {
            Enqueue::GoodJob => Err(refused(
                "There is no table good_jobs in the search path, and --enqueue good_job demands it",
            )
            .into()),
            _ => Ok(Queue::NoTable),
        };
    }
    let queue = shape(&columns).map_err(TxError::Failed)?;
    let rows = tx.rows("look at the rights on good_jobs", GOOD_JOBS_RIGHT, &[])?;
    if !rows
        .first()
        .and_then(|row| row.get::<_, Option<bool>>(0))
        .unwrap_or(false)
    {
        return Err(refused(
            "The role may not insert into good_jobs; GRANT INSERT ON good_jobs, or set --enqueue none",
        )
        .into());
    }
    Ok(queue)
}

/// Recognizes the table by its columns: each a name, and whether an insert must fill it.
fn shape(columns: &[(String, bool)]) -> Result<Queue> {
    let has = |name: &&str| columns.iter().any(|(column, _)| column == name);
    let discrete = DISCRETE.iter().all(has);
    let lacks: Vec<&str> = FILLED.into_iter().filter(|name| !has(name)).collect();
    let unknown: Vec<&str> = columns
        .iter()
        .filter(|(_, must_be_filled)| *must_be_filled)
        .map(|(name, _)| name.as_str())
        .filter(|name| !(FILLED.contains(name) || discrete && DISCRETE.contains(name)))
        .collect();
    if !lacks.is_empty() || !unknown.is_empty() {
        let mut message = "The table good_jobs has an unknown shape".to_owned();
        if !lacks.is_empty() {
            message.push_str(&format!("; it lacks {}", lacks.join(", ")));
        }
        if !unknown.is_empty() {
            message.push_str(&format!("; it demands {}", unknown.join(", ")));
        }
        message.push_str("; GoodJob 3.99 and 4 are known; else set --enqueue none");
        return Err(refused(&message));
    }
    Ok(if discrete {
        Queue::DiscreteGoodJob
    } else {
        Queue::GoodJob
    })
}

/// Enqueues a job for each id, in their order, and wakes a waiting worker at commit.
pub fn enqueue(
    tx: &mut Tx<'_>,
    config: &JobConfig,
    queue: Queue,
    ids: &[i64],
) -> Result<u64, TxError> {
    let sql = match queue {
        Queue::DiscreteGoodJob => ENQUEUE_DISCRETE_JOBS,
        Queue::GoodJob => ENQUEUE_JOBS,
        Queue::Nowhere | Queue::NoTable => {
            if queue == Queue::NoTable && !ids.is_empty() {
                warn!(stage = Stage::Create.as_str();
                    "There is no table good_jobs: {} rows are created without a job, and wait as pending",
                    ids.len());
            }
            return Ok(0);
        }
    };
    if ids.is_empty() {
        return Ok(0);
    }
    let arguments = Value::Array(ids.iter().map(|id| argument(config, *id)).collect());
    let enqueued = tx.execute(
        "enqueue the jobs",
        sql,
        &[
            (&arguments, Type::JSONB),
            (&config.class, Type::TEXT),
            (&config.queue, Type::TEXT),
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

/// Returns the parameters of the job that a row would get, for a person to compare.
pub fn preview(config: &JobConfig, id: i64) -> Value {
    json!({
        "job_class": config.class,
        "queue_name": config.queue,
        "arguments": [argument(config, id)],
    })
}

/// Returns the one argument of a job, as Active Job serializes it.
pub fn argument(config: &JobConfig, id: i64) -> Value {
    match config.argument {
        JobArgument::Record => {
            json!({ "_aj_globalid": format!("gid://{}/{MODEL}/{id}", config.app) })
        }
        JobArgument::Id => json!(id),
    }
}

fn refused(message: &str) -> Failure {
    Failure::new(Stage::Create, Reason::EnqueueRefused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str], must_be_filled: &[&str]) -> Vec<(String, bool)> {
        names
            .iter()
            .map(|name| (name.to_string(), must_be_filled.contains(name)))
            .collect()
    }

    #[test]
    fn shapes() {
        let must = ["id", "created_at", "updated_at"];
        let with = |more: &[&'static str]| [&FILLED[..], more].concat();
        let shape_of = |names: &[&str], must: &[&str]| shape(&columns(names, must));
        assert_eq!(
            shape_of(&with(&DISCRETE), &must).unwrap(),
            Queue::DiscreteGoodJob
        );
        assert_eq!(
            shape_of(&with(&["lock_type"]), &must).unwrap(),
            Queue::GoodJob
        );
        // With only one of the two, neither is filled, so it must not be demanded.
        assert_eq!(
            shape_of(&with(&["is_discrete"]), &must).unwrap(),
            Queue::GoodJob
        );
        let error = shape_of(&with(&["is_discrete"]), &["is_discrete"]).unwrap_err();
        assert!(
            error.message.contains("demands is_discrete"),
            "{}",
            error.message
        );
        let error = shape_of(&["id", "priority"], &must).unwrap_err();
        assert!(
            error.message.contains("lacks active_job_id, job_class"),
            "{}",
            error.message
        );
        assert_eq!(error.reason, Reason::EnqueueRefused);
    }
}
