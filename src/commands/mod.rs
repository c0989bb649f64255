//! One file per command; each asks the settings for what it needs.

pub(crate) mod check;
pub mod migrate;
pub(crate) mod pull;
pub(crate) mod rejected;
pub mod schedule;
pub(crate) mod status;
pub(crate) mod watermark;
