//! `datapass-pull`: one run is one cycle, Authenticate → List → Create → Advance.

pub mod cli;
pub mod config;
pub mod error;
pub mod exit;
pub mod logging;
pub mod report;
