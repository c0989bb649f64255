//! What is kept between cycles: one file per table, and the summary of a cycle.

pub mod acceptance;
pub mod runs;
pub mod summary;
pub mod watermark;
