//! The table of handled entries: what has or once had a row.
//!
//! It outlives the row, so that one which the application deletes is not created again.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use postgres::types::Type;

use crate::db::tables;
use crate::db::transaction::{Tx, not_written, read_time};
use crate::error::Result;
use crate::types::entry::Entry;

const EXISTING: &str = include_str!("../../sql/existing_rows.sql");
const HANDLED: &str = include_str!("../../sql/handled_entries.sql");
const RECORD: &str = include_str!("../../sql/record_handled.sql");

/// How many public ids one statement takes: an answer is held twice for as long as it is read.
const BATCH_IDS: usize = 10_000;

/// What the tables hold of an entry, by public id.
pub type KnownEntries = HashMap<String, KnownEntry>;

/// What the tables hold of an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KnownEntry {
    /// Whether it has a row now.
    pub has_row: bool,
    /// Whether it is recorded as handled.
    pub is_handled: bool,
    /// The validation that was seen last: when it was handled, else the row's.
    pub last_validated_at: Option<DateTime<Utc>>,
}

/// Looks entries up in the table of requests and in that of handled entries.
pub fn known(tx: &mut Tx<'_>, public_ids: &[&str]) -> Result<KnownEntries> {
    let mut known = KnownEntries::new();
    for batch in public_ids.chunks(BATCH_IDS) {
        let ids = [(&batch as _, Type::TEXT_ARRAY)];
        tx.rows("look for existing rows", EXISTING, &ids, |row| {
            let entry = known.entry(row.try_get(0)?).or_default();
            entry.has_row = true;
            entry.last_validated_at = read_time(row, 1)?;
            Ok(())
        })?;
        tx.rows("look for handled entries", HANDLED, &ids, |row| {
            let entry = known.entry(row.try_get(0)?).or_default();
            entry.is_handled = true;
            entry.last_validated_at = read_time(row, 1)?;
            Ok(())
        })?;
    }
    Ok(known)
}

/// Records entries as handled, each of another public id, with the validation that was seen.
pub fn record(tx: &mut Tx<'_>, handled: &[&Entry]) -> Result<()> {
    for batch in handled.chunks(BATCH_IDS) {
        let ids: Vec<Option<&str>> = batch.iter().map(|it| it.public_id()).collect();
        let times: Vec<Option<DateTime<Utc>>> = batch.iter().map(|it| it.time()).collect();
        let recorded = tx.execute(
            "record the handled entries",
            RECORD,
            &[(&ids, Type::TEXT_ARRAY), (&times, Type::TIMESTAMPTZ_ARRAY)],
        )?;
        if recorded != batch.len() as u64 {
            return Err(not_written(tables::HANDLED));
        }
    }
    Ok(())
}
