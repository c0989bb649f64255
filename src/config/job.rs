//! The job of a created row.

use strum::{Display, EnumString, VariantNames};

use super::settings::{Settings, all};
use super::values;

/// How a created row's job is enqueued.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// `DATAPASS_ENQUEUE`.
    pub enqueue: Enqueue,
    /// `DATAPASS_JOB_CLASS`: the Active Job class.
    pub class: String,
    /// `DATAPASS_JOB_QUEUE`.
    pub queue: String,
    /// `DATAPASS_JOB_PRIORITY`.
    pub priority: i32,
    /// `DATAPASS_JOB_APP`: the GlobalID application.
    pub app: String,
    /// `DATAPASS_JOB_ARGUMENT`.
    pub argument: JobArgument,
}

/// `--enqueue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Enqueue {
    /// `good_jobs` when it is there.
    Auto,
    /// `good_jobs`, or fail.
    GoodJob,
    /// Leave the `pending` rows to be polled.
    None,
}

/// `DATAPASS_JOB_ARGUMENT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum JobArgument {
    /// The record's GlobalID.
    Record,
    /// The record's id.
    Id,
}

impl Settings {
    /// How a created row's job is enqueued.
    pub fn job(&mut self) -> Option<JobConfig> {
        all!(JobConfig {
            enqueue: self.text("DATAPASS_ENQUEUE", values::word),
            class: self.text("DATAPASS_JOB_CLASS", values::ruby_class),
            queue: self.text("DATAPASS_JOB_QUEUE", |it| values::plain(it, 200)),
            priority: self.text("DATAPASS_JOB_PRIORITY", values::integer),
            app: self.text("DATAPASS_JOB_APP", values::global_id_app),
            argument: self.text("DATAPASS_JOB_ARGUMENT", values::word),
        })
    }
}
