//! The tables of a cycle, for messages and for what is created first.
//!
//! `sql/schema.sql` creates them; `sql/catalog/wanted.sql` says what may differ in a table that the
//! Rails application made.

/// A table of a cycle.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// The privileges that a cycle needs.
    pub(crate) privileges: &'static [&'static str],
}

const fn table(name: &'static str, privileges: &'static [&'static str]) -> Table {
    Table { name, privileges }
}

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

/// Our tables, in the order in which they are created. With DELETE on the runs, old ones are pruned;
/// nothing fails without it.
pub(crate) const TABLES: [Table; 5] = [
    table(REQUESTS, &["SELECT", "INSERT"]),
    table(HANDLED, &["SELECT", "INSERT", "UPDATE"]),
    table(WATERMARKS, &["SELECT", "INSERT", "UPDATE"]),
    table(REJECTIONS, &["SELECT", "INSERT", "UPDATE"]),
    table(RUNS, &["SELECT", "INSERT"]),
];

/// The job table of GoodJob, which is not ours.
pub(crate) const GOOD_JOBS: &str = "good_jobs";

/// Returns the table that a statement of a cycle writes to.
pub(crate) fn written_by(sql: &str) -> Option<&'static str> {
    let sql = sql.to_ascii_lowercase();
    let written = ["insert into ", "update "].iter().find_map(|verb| {
        let (_, rest) = sql.split_once(verb)?;
        rest.split([' ', '\n', '(']).next()
    })?;
    let mut names = TABLES.iter().map(|table| table.name).chain([GOOD_JOBS]);
    names.find(|name| written.trim_matches('"').ends_with(name))
}
