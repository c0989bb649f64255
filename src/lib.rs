//! `datapass-pull`: one run is one cycle, Authenticate → List → Create → Advance.
//!
//! # Invariants
//! - Nothing is written before the listing is complete; then rows, jobs, rejections, watermark and
//!   run are one transaction. A crash leaves the tables as before or as after.
//! - The unique constraint decides what exists; the watermark never goes back.
//! - Secrets and personal data are in no message, log line, table, metric or report.
//!
//! # Map of the rooms
//! - [`app`] runs a command and prints its answer; [`cli`] and [`config`] say what was asked;
//!   [`exit`] has the codes, [`error`] the reasons; [`logging`] writes the log.
//! - [`supervise`] waits for a run, its deadline ([`budget`]), a signal or a panic.
//! - [`cycle`] is the cycle, top to bottom: [`auth`] over [`http`] (tried again by [`retry`]),
//!   [`list`] (pages, proof, decoding into [`types`]), [`plan`] (the filter), [`create`] with
//!   [`rejections`] and [`jobs`], [`advance`] for the arithmetic of the [`watermark`].
//! - [`store`] runs transactions; [`db`] connects, classifies errors, migrates; [`tls`] is for both.
//! - [`progress`] shows how far it is; [`report`], [`runs`], [`metrics`] and [`alerts`] tell how it
//!   ended.
//! - [`check`], [`status`], [`rejected`] and [`schedule`] are the other commands; [`columns`] fits
//!   what they say to a terminal, and [`escape`] makes remote text harmless there and in the log.

pub mod advance;
pub mod alerts;
pub mod app;
pub mod auth;
pub mod budget;
pub mod check;
pub mod cli;
pub mod columns;
pub mod config;
pub mod create;
pub mod cycle;
pub mod db;
pub mod error;
pub mod escape;
pub mod exit;
pub mod http;
pub mod jobs;
pub mod list;
pub mod logging;
pub mod metrics;
pub mod plan;
pub mod progress;
pub mod rejected;
pub mod rejections;
pub mod report;
pub mod retry;
pub mod runs;
pub mod schedule;
pub mod status;
pub mod store;
pub mod supervise;
pub mod tls;
pub mod types;
pub mod watermark;
