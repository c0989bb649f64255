//! The report of a cycle: counters that every step adds to, and the summary line made of them.

use chrono::{DateTime, Utc};

use crate::error::Reason;

/// What a cycle did so far: the fields of the summary line.
///
/// Times are UTC. `matched = created + existing + rejected + accepted + dropped` once a cycle
/// succeeded; a failed one shows how far it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Why it failed; absent on success.
    pub reason: Option<Reason>,
    /// Pages received, whether they joined or not.
    pub pages: u64,
    /// Distinct demandes listed, of any definition.
    pub seen: u64,
    /// Entries that the cycle is about.
    pub matched: u64,
    /// Rows inserted.
    pub created: u64,
    /// Entries already in the table.
    pub existing: u64,
    /// Those of `existing` validated again since.
    pub revalidated: u64,
    /// Entries that failed validation.
    pub rejected: u64,
    /// Entries that failed validation and were accepted so by a person.
    pub accepted: u64,
    /// Entries without a validation time, new to the table, on a cycle with a `since`.
    pub dropped: u64,
    /// Jobs enqueued.
    pub enqueued: u64,
    /// Entries before `since` that the table does not have.
    pub missing: u64,
    /// Steps back of the listing.
    pub drift_rewinds: u64,
    /// The filter's instant.
    pub since: Option<DateTime<Utc>>,
    /// The watermark that the cycle found.
    pub watermark_before: Option<DateTime<Utc>>,
    /// The watermark that it left.
    pub watermark: Option<DateTime<Utc>>,
    /// Wall time.
    pub duration_ms: u64,
    /// Whether nothing was to be written.
    pub dry_run: bool,
}
