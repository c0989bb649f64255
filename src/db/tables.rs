//! The tables of a cycle, for messages and for what is created first.
//!
//! `sql/schema.sql` creates them; `sql/catalog/wanted.sql` says what may differ in a table that the
//! Rails application made.

/// The beginning of a statement that compares the catalog with these tables.
pub(crate) const WANTED: &str = include_str!("../../sql/catalog/wanted.sql");

/// One row per created entry.
pub(crate) const REQUESTS: &str = "proactivite_requests";
/// Every entry that has or had a row.
pub(crate) const HANDLED: &str = "datapass_pull_handled";
/// The one row that reports progress.
pub(crate) const WATERMARKS: &str = "datapass_pull_watermarks";
/// The entries that failed validation.
pub(crate) const REJECTIONS: &str = "datapass_pull_rejections";
/// One row per cycle.
pub(crate) const RUNS: &str = "datapass_pull_runs";

/// Our tables, in the order in which they are created.
pub(crate) const TABLES: [&str; 5] = [REQUESTS, HANDLED, WATERMARKS, REJECTIONS, RUNS];

/// The privileges that a cycle needs on each table that it writes to. With DELETE on the runs, old
/// ones are pruned; nothing fails without it.
pub(crate) const PRIVILEGES: [(&str, &str); 6] = [
    (REQUESTS, "SELECT, INSERT"),
    (HANDLED, "SELECT, INSERT, UPDATE"),
    (WATERMARKS, "SELECT, INSERT, UPDATE"),
    (REJECTIONS, "SELECT, INSERT, UPDATE"),
    (RUNS, "SELECT, INSERT"),
    (GOOD_JOBS, "INSERT"),
];

/// Our tables with an id that is taken from a sequence.
pub(crate) const WITH_SEQUENCE: [&str; 3] = [REQUESTS, REJECTIONS, RUNS];

/// The job table of GoodJob, which is not ours.
pub(crate) const GOOD_JOBS: &str = "good_jobs";

/// Returns the table that a statement of a cycle writes to.
pub(crate) fn written_by(sql: &str) -> Option<&'static str> {
    let sql = sql.to_ascii_lowercase();
    let (_, rest) = sql.split_once("insert into ").or_else(|| sql.split_once("update "))?;
    let written = rest.split([' ', '\n', '(']).next()?.trim_matches('"');
    PRIVILEGES.map(|(name, _)| name).into_iter().find(|name| written.ends_with(name))
}
