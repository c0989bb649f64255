//! One file per command; each asks the settings for what it needs.

pub mod check;
pub mod migrate;
pub mod pull;
pub mod rejected;
pub mod schedule;
pub mod status;
pub mod watermark;
