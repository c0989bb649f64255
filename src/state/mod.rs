//! What is kept between cycles: one file per table, and the summary of a cycle.

pub mod handled;
pub mod rejections;
pub(crate) mod runs;
pub(crate) mod summary;
pub(crate) mod watermark;
