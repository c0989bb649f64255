//! `datapass-pull`: one run is one cycle, Authenticate → List → Create → Advance.
//!
//! # Invariants
//! - Nothing is written before the listing is complete; then rows, jobs, rejections, watermark and
//!   run are one transaction. A crash leaves the tables as before or as after.
//! - The unique constraint decides what exists; the watermark never goes back.
//! - Secrets and personal data are in no message, log line, table, metric or report.
//!
//! # Module overview
//! A folder imports only what stands below it in this list.
//! - [`app`] sets the process up and runs a command; `commands` has one file per command.
//! - `report` notifies others of a cycle: metrics file, Sentry, Healthchecks.
//! - [`cycle`] is the cycle, top to bottom: read `cycle/mod.rs` first.
//! - `state` has one file per table and the summary; `output` is what a terminal or a log receives.
//! - `config` validates the settings.
//! - `db` connects to PostgreSQL and runs transactions; `net` is the HTTP client and TLS.
//! - `process` has the deadline, signals and panics.
//! - [`types`], [`cli`] and [`error`] are at the ground.

pub mod app;
pub mod cli;
pub mod commands;
pub mod config;
pub mod cycle;
pub mod db;
pub mod error;
pub mod net;
mod output;
mod process;
mod report;
pub mod state;
pub mod types;
