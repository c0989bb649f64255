//! Rejects entries for what only the database knows.

use std::sync::Arc;

use crate::db::transaction::Tx;
use crate::error::Result;
use crate::types::entry::{Entry, Fault};

/// Rejects the entries whose public id has a character that the database cannot store.
///
/// One such value would make every statement that holds it fail, and with it the whole cycle.
pub(super) fn reject_unstorable(tx: &mut Tx<'_>, entries: &mut [Arc<Entry>]) -> Result<()> {
    let ids = entries.iter().filter_map(|entry| entry.public_id());
    let doubtful: Vec<&str> = ids.filter(|it| !it.is_ascii()).collect();
    // One statement for all of them, which nearly every database can store.
    if doubtful.is_empty() || tx.can_store(&doubtful.join(" "))? {
        return Ok(());
    }
    for entry in entries {
        let Some(public_id) = entry.public_id().filter(|it| !it.is_ascii()) else { continue };
        if tx.can_store(public_id)? {
            continue;
        }
        let entry = Arc::make_mut(entry);
        // A reference made of the public id could not be stored either.
        entry.reference = entry.reference.escape_default().to_string();
        let rule = "a character that the database cannot store";
        entry.reject(Fault { field: "public_id", rule });
    }
    Ok(())
}
