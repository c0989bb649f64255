//! Validated settings: flag over environment over `--env-file`, every problem named at once.
//!
//! One file per concern has what a command asks for; `settings` looks values up, `sources` has where
//! they come from, `values` and `addresses` parse them.

mod addresses;
pub(crate) mod effective;
mod env_file;
mod http;
mod job;
mod output;
mod pull;
mod reports;
mod schedule;
mod settings;
mod sources;
mod upstream;
mod values;

pub use job::{Enqueue, JobArgument, JobConfig};
pub use output::{Format, LogConfig};
pub use pull::PullConfig;
pub use reports::{MonitorConfig, PingConfig, Reports, SentryConfig};
pub use schedule::ScheduleConfig;
pub use settings::Settings;
pub use upstream::UpstreamConfig;

#[cfg(test)]
mod tests;
