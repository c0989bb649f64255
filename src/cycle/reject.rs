//! Rejects: entries that cannot have a row are recorded, and closed when they pass or leave.

use super::filter::{self, Sorted};
use crate::db::transaction::{Columns, Tx, TxError};
use crate::state::rejections::{self, KnownRejection, KnownRejections};
use crate::types::entry::{Fault, Listed};

const SERVER_ENCODING: &str = include_str!("../../sql/server_encoding.sql");

/// Rejects the entries whose public id has a character that the database cannot store.
///
/// One such value would make every statement that holds it fail, and with it the whole cycle.
pub(super) fn reject_unstorable(tx: &mut Tx<'_>, entries: &mut [Listed]) -> Result<(), TxError> {
    let is_ascii = |entry: &&mut Listed| entry.public_id().is_none_or(str::is_ascii);
    let mut doubtful: Vec<&mut Listed> = entries.iter_mut().filter(|it| !is_ascii(it)).collect();
    if doubtful.is_empty() || server_encoding(tx)? == "UTF8" {
        return Ok(());
    }
    for entry in &mut doubtful {
        if entry.public_id().map_or(Ok(true), |id| tx.can_store(id))? {
            continue;
        }
        // A reference made of the public id could not be stored either.
        entry.reference = entry.key.ascii_reference();
        entry.reject(
            None,
            Fault { field: "public_id", rule: "a character that the database cannot store" },
        );
    }
    Ok(())
}

fn server_encoding(tx: &mut Tx<'_>) -> Result<String, TxError> {
    let rows = tx.rows("read the server's encoding", SERVER_ENCODING, &[])?;
    rows.first().map_or(Ok(String::new()), |row| row.column(0))
}

/// Records the rejected entries of a cycle, and closes the rejections that are over.
///
/// `at_start` are the rejections that the cycle read at its start: one that was recorded since, by a
/// cycle that overtook this one, stays as it is. With `--since`, or in an empty listing, what is not
/// listed is not closed: it may lie outside, or an account may see nothing for a while.
pub(super) fn reject(
    tx: &mut Tx<'_>,
    entries: &[Listed],
    sorted: &Sorted<'_>,
    seen: u64,
    at_start: &KnownRejections,
) -> Result<(), TxError> {
    let accepted: Vec<&str> = sorted.accepted.iter().map(|(it, _)| &*it.reference).collect();
    let recorded = [&sorted.rejected[..], &sorted.accepted].concat();
    rejections::record(tx, &recorded, &accepted)?;
    let created = sorted.created.iter().map(|(entry, _)| *entry);
    let passed = sorted.existing.iter().copied().chain(created);
    let mut over: Vec<&str> = passed.map(|entry| &*entry.reference).collect();
    if sorted.scope.since.is_none() && seen > 0 {
        over.extend(filter::left(entries, at_start));
    }
    let over: Vec<(&str, KnownRejection)> = over
        .into_iter()
        .filter_map(|reference| at_start.get(reference).map(|known| (reference, *known)))
        .filter(|(_, known)| !known.is_closed)
        .collect();
    rejections::close(tx, &over)
}
