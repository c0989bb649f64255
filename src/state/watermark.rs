//! The watermark row: one definition's progress.
//!
//! Whoever changes it, a cycle or a person, holds its lock until the transaction ends.

use chrono::{DateTime, Utc};
use log::info;
use postgres::types::Type;

use crate::db::transaction::{self, Tx, TxError};
use crate::error::{Failure, Reason, Result, Stage};
use crate::types::time::shown;

const READ_WATERMARK: &str = include_str!("../../sql/read_watermark.sql");
const WATERMARK_MOVED: &str = include_str!("../../sql/watermark_moved.sql");
const LOCK_WATERMARK: &str = include_str!("../../sql/lock_watermark.sql");
const INSERT_WATERMARK: &str = include_str!("../../sql/insert_watermark.sql");
const MOVE_WATERMARK: &str = include_str!("../../sql/move_watermark.sql");

/// The watermark row.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// The definition that it belongs to; one without belongs to whoever comes first.
    pub definition_id: Option<String>,
    /// The watermark; none before the first complete cycle.
    pub time: Option<DateTime<Utc>>,
}

impl Watermark {
    /// Refuses a watermark that belongs to another definition.
    pub fn demand_definition(&self, ours: &str) -> Result<()> {
        if self
            .definition_id
            .as_deref()
            .is_none_or(|definition| definition == ours)
        {
            return Ok(());
        }
        Err(Failure::new(
            Stage::Prepare,
            Reason::DefinitionChanged,
            "The watermark belongs to another definition than DATAPASS_DEFINITION_ID; set it back, \
             use a schema of its own for the new one, or free the watermark with \
             `datapass-pull watermark reset`",
        ))
    }
}

/// Reads the watermark without a lock.
pub fn read(tx: &mut Tx<'_>) -> Result<Watermark, TxError> {
    Ok(select(tx, READ_WATERMARK)?.unwrap_or_default())
}

/// Returns when the watermark moved last.
pub fn moved_at(tx: &mut Tx<'_>) -> Result<Option<DateTime<Utc>>, TxError> {
    let rows = tx.rows("read when the watermark moved", WATERMARK_MOVED, &[])?;
    Ok(rows.first().and_then(|row| transaction::instant(row, 0)))
}

/// Takes the lock under which cycles take turns; with `dry_run` only reads.
pub fn lock(tx: &mut Tx<'_>, dry_run: bool) -> Result<Watermark, TxError> {
    if dry_run {
        return read(tx);
    }
    if let Some(watermark) = select(tx, LOCK_WATERMARK)? {
        return Ok(watermark);
    }
    tx.execute("insert the watermark row", INSERT_WATERMARK, &[])?;
    Ok(select(tx, LOCK_WATERMARK)?.unwrap_or_default())
}

fn select(tx: &mut Tx<'_>, sql: &str) -> Result<Option<Watermark>, TxError> {
    let rows = tx.rows("read the watermark", sql, &[])?;
    Ok(rows.first().map(|row| Watermark {
        definition_id: row.get(0),
        time: transaction::instant(row, 1),
    }))
}

/// Moves the locked watermark to where a cycle leaves it, and makes it the definition's own. A row
/// that would stay as it is is left alone.
pub fn advance(
    tx: &mut Tx<'_>,
    locked: &Watermark,
    definition_id: &str,
    time: Option<DateTime<Utc>>,
) -> Result<(), TxError> {
    let moved = Watermark {
        definition_id: Some(definition_id.to_owned()),
        time,
    };
    if time.is_none() || moved == *locked {
        return Ok(());
    }
    put(tx, &moved)?;
    if time != locked.time {
        info!(stage = Stage::Advance.as_str(); "The watermark is {}", shown(time));
    }
    Ok(())
}

/// Writes the row.
pub fn put(tx: &mut Tx<'_>, watermark: &Watermark) -> Result<(), TxError> {
    tx.execute(
        "move the watermark",
        MOVE_WATERMARK,
        &[
            (&watermark.definition_id, Type::TEXT),
            (&watermark.time, Type::TIMESTAMPTZ),
        ],
    )?;
    Ok(())
}
