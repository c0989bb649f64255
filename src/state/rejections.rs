//! The rejections table: entries that cannot have a row, and what an operator accepted of them.
//!
//! A rejected entry is *open*: it is retried by every plain cycle and holds the watermark. An
//! operator may *accept* it for the validation that it has; validated again, it is open anew. One
//! that passes or leaves the listing is *closed*, and keeps its acceptance for when it returns.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use postgres::types::Type;
use serde_json::{Value, json};

use crate::db::transaction::{Columns, Tx, TxError};
use crate::types::DemandeId;
use crate::types::entry::{Listed, Rejected};

const TRACKED: &str = include_str!("../../sql/tracked_rejections.sql");
const RECORD: &str = include_str!("../../sql/record_rejections.sql");
const CLOSE: &str = include_str!("../../sql/close_rejections.sql");

/// The rejections that are not closed or were accepted, by reference.
pub type KnownRejections = HashMap<String, KnownRejection>;

/// What the table holds of a rejected entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownRejection {
    /// Whether an operator accepted it, for the validation at `last_validated_at`.
    pub is_accepted: bool,
    /// The validation that was rejected last.
    pub last_validated_at: Option<DateTime<Utc>>,
    /// Whether it passed or left the listing.
    pub is_closed: bool,
    /// How many cycles rejected it.
    pub times_seen: i64,
}

impl KnownRejection {
    /// Returns whether it is accepted for this validation.
    pub fn accepts(&self, last_validated_at: Option<DateTime<Utc>>) -> bool {
        self.is_accepted && self.last_validated_at == last_validated_at
    }
}

/// Reads the rejections that are not closed or were accepted.
pub fn known(tx: &mut Tx<'_>) -> Result<KnownRejections, TxError> {
    let rows = tx.rows("read the rejections", TRACKED, &[])?;
    let rejections = rows.iter().map(|row| {
        let known = KnownRejection {
            is_accepted: row.column(1)?,
            last_validated_at: row.time(2)?,
            is_closed: row.column(3)?,
            times_seen: row.column(4)?,
        };
        Ok((row.column(0)?, known))
    });
    rejections.collect()
}

/// Records rejected entries; `accepted` are the references whose acceptance holds.
pub fn record(
    tx: &mut Tx<'_>,
    rejected: &[(&Listed, &Rejected)],
    accepted: &[&str],
) -> Result<(), TxError> {
    if rejected.is_empty() {
        return Ok(());
    }
    // One statement cannot change a row twice.
    let records: HashMap<&str, Value> = rejected
        .iter()
        .map(|(entry, rejected)| (&*entry.reference, row(entry, rejected)))
        .collect();
    let records = Value::Array(records.into_values().collect());
    tx.execute(
        "record the rejections",
        RECORD,
        &[(&records, Type::JSONB), (&accepted, Type::TEXT_ARRAY)],
    )?;
    Ok(())
}

fn row(entry: &Listed, rejected: &Rejected) -> Value {
    let reasons: Vec<String> = rejected.faults.iter().map(ToString::to_string).collect();
    json!({
        "ref": entry.reference,
        "demande_id": entry.key.demande_id().map(DemandeId::get),
        "datapass_authorization_id": entry.public_id(),
        "reasons": reasons,
        "last_validated_at": entry.time(),
    })
}

/// Closes those of the rejections, by reference, that no cycle recorded since they were read.
pub fn close(tx: &mut Tx<'_>, passed: &[(&str, KnownRejection)]) -> Result<(), TxError> {
    if passed.is_empty() {
        return Ok(());
    }
    let (references, times_seen): (Vec<&str>, Vec<i64>) = passed
        .iter()
        .map(|(reference, known)| (*reference, known.times_seen))
        .unzip();
    tx.execute(
        "close rejections",
        CLOSE,
        &[
            (&references, Type::TEXT_ARRAY),
            (&times_seen, Type::INT8_ARRAY),
        ],
    )?;
    Ok(())
}
