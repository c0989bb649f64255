//! The integration tests: the compiled binary against a real PostgreSQL and a fake DataPass.
//!
//! One module per topic; they share `harness`.

// A test may panic, and no item of this binary is public outside of it.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)]

mod alerts;
mod check;
mod check_ins;
mod clock;
mod completions;
mod concurrent_pages;
mod container;
mod cost;
mod cycle;
mod database;
mod database_url;
// Pages as large as real ones, shared with the benchmark.
#[path = "../bench/demandes.rs"]
mod demandes;
mod dependencies;
mod docs;
mod encodings;
mod enqueue;
mod entries;
mod environment;
mod faults;
mod handled;
mod harness;
mod harness_selftest;
mod json;
mod layout;
mod leaks;
mod log;
mod metrics;
mod migrate;
mod model;
mod operations;
mod package;
mod progress;
mod proxies;
mod rejected;
mod remarks;
mod resources;
mod responses;
mod retry_for;
mod schedule;
mod schema;
mod search_path;
mod status;
mod tls;
mod view;
mod watermark;
