//! What is kept between cycles: one file per table, and the summary of a cycle.

pub mod handled;
pub mod rejections;
pub mod runs;
pub mod summary;
pub mod watermark;
