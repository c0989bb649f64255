//! The watermark row: one definition's progress, and what is skipped.
//!
//! Whoever changes it, a cycle or an operator, holds its lock until the transaction ends.

use chrono::{DateTime, TimeDelta, Utc};
use postgres::types::Type;

use crate::db::tables::WATERMARKS;
use crate::db::transaction::{Access, Tx, not_written, read_time};
use crate::error::{Failure, Reason, Result, Stage};

const READ: &str = include_str!("../../sql/read_watermark.sql");
const LOCK: &str = include_str!("../../sql/lock_watermark.sql");
const INSERT: &str = include_str!("../../sql/insert_watermark.sql");
const MOVE: &str = include_str!("../../sql/move_watermark.sql");

/// The watermark row.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// The definition that it belongs to; one without belongs to whichever comes first.
    pub definition_id: Option<String>,
    /// The watermark; none before the first complete cycle.
    pub time: Option<DateTime<Utc>>,
    /// What was validated before it and never handled is skipped.
    pub skip_before: Option<DateTime<Utc>>,
    /// When the row changed last; a cycle that leaves the watermark where it was does not touch it.
    pub updated_at: Option<DateTime<Utc>>,
}

impl Watermark {
    /// Refuses a watermark that belongs to another definition.
    pub fn require_definition(&self, ours: &str) -> Result<()> {
        if self.definition_id.as_deref().is_none_or(|it| it == ours) {
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

    /// Returns whether the row holds the same; a column may be less precise than a time.
    fn is_same(&self, other: &Self) -> bool {
        let is_near = |one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>| match one {
            Some(one) => other.is_some_and(|it| (it - one).abs() <= TimeDelta::seconds(1)),
            None => other.is_none(),
        };
        self.definition_id == other.definition_id
            && is_near(self.time, other.time)
            && is_near(self.skip_before, other.skip_before)
    }
}

/// Reads the watermark without a lock.
pub fn read(tx: &mut Tx<'_>) -> Result<Watermark> {
    Ok(select(tx, READ)?.unwrap_or_default())
}

/// Takes the lock under which cycles take turns; a transaction that only reads takes none.
pub fn lock(tx: &mut Tx<'_>) -> Result<Watermark> {
    if tx.access() == Access::ReadOnly {
        return read(tx);
    }
    if let Some(watermark) = select(tx, LOCK)? {
        return Ok(watermark);
    }
    tx.execute("insert the watermark row", INSERT, &[])?;
    select(tx, LOCK)?.ok_or_else(|| not_written(WATERMARKS))
}

fn select(tx: &mut Tx<'_>, sql: &str) -> Result<Option<Watermark>> {
    let mut rows = tx.rows("read the watermark", sql, &[], |row| {
        Ok(Watermark {
            definition_id: row.try_get(0)?,
            time: read_time(row, 1)?,
            skip_before: read_time(row, 2)?,
            updated_at: read_time(row, 3)?,
        })
    })?;
    Ok(rows.pop())
}

/// Moves the locked watermark to where a cycle leaves it, and binds it to the definition. A row that
/// would stay as it is is not written.
pub fn advance(
    tx: &mut Tx<'_>,
    locked: &Watermark,
    definition_id: &str,
    time: Option<DateTime<Utc>>,
) -> Result<()> {
    let moved = Watermark { definition_id: Some(definition_id.to_owned()), time, ..locked.clone() };
    if moved == *locked {
        return Ok(());
    }
    put(tx, &moved)
}

/// Writes the row, but for the time of the change, which is now. A trigger or a rule may swallow the
/// update, or keep the row as it was.
pub fn put(tx: &mut Tx<'_>, target: &Watermark) -> Result<()> {
    tx.execute(
        "move the watermark",
        MOVE,
        &[
            (&target.definition_id, Type::TEXT),
            (&target.time, Type::TIMESTAMPTZ),
            (&target.skip_before, Type::TIMESTAMPTZ),
        ],
    )?;
    // Not `returning`, which a rule on the table may refuse.
    if read(tx)?.is_same(target) {
        return Ok(());
    }
    Err(not_written(WATERMARKS))
}
