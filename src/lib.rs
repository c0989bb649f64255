//! `datapass-pull`: one run is one cycle, Authenticate → List → Create → Advance.

pub mod config;
pub mod error;
pub mod exit;
pub mod list;
pub mod report;
pub mod types;
