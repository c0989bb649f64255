//! `datapass-pull`: one run is one cycle, Authenticate → List → Create → Advance.

pub mod advance;
pub mod app;
pub mod auth;
pub mod budget;
pub mod cli;
pub mod config;
pub mod create;
pub mod cycle;
pub mod db;
pub mod error;
pub mod exit;
pub mod http;
pub mod jobs;
pub mod list;
pub mod logging;
pub mod rejections;
pub mod report;
pub mod retry;
pub mod runs;
pub mod schedule;
pub mod store;
pub mod supervise;
pub mod tls;
pub mod types;
