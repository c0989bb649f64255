//! The watermark row: one definition's progress, and the commands that move it by hand.
//!
//! Whoever changes it, a cycle or a person, holds its lock until the transaction ends.

use std::io::{self, BufRead, IsTerminal, Write};

use chrono::{DateTime, Utc};
use log::info;
use postgres::types::Type;

use crate::cycle::SharedAccount;
use crate::error::{Failure, Reason, Result, Stage};
use crate::report::rfc3339;
use crate::runs;
use crate::store::{self, Access, Store, Tx, TxError};

const READ_WATERMARK: &str = include_str!("../sql/read_watermark.sql");
const WATERMARK_MOVED: &str = include_str!("../sql/watermark_moved.sql");
const LOCK_WATERMARK: &str = include_str!("../sql/lock_watermark.sql");
const INSERT_WATERMARK: &str = include_str!("../sql/insert_watermark.sql");
const MOVE_WATERMARK: &str = include_str!("../sql/move_watermark.sql");

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
    Ok(rows.first().and_then(|row| store::instant(row, 0)))
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
        time: store::instant(row, 1),
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

fn put(tx: &mut Tx<'_>, watermark: &Watermark) -> Result<(), TxError> {
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

/// A move by hand, as it was asked for.
#[derive(Debug, Clone)]
pub struct Move {
    kind: &'static str,
    target: Watermark,
}

impl Move {
    /// Sets the watermark, back or forward.
    pub fn set(definition_id: String, time: DateTime<Utc>) -> Self {
        Self {
            kind: "watermark set",
            target: Watermark {
                definition_id: Some(definition_id),
                time: Some(time),
            },
        }
    }

    /// Forgets the watermark and the definition that it belongs to.
    pub fn reset() -> Self {
        Self {
            kind: "watermark reset",
            target: Watermark::default(),
        }
    }

    /// Refuses to move the watermark of another definition; to free it is no such move.
    fn may_leave(&self, stored: &Watermark) -> Result<()> {
        match &self.target.definition_id {
            Some(definition_id) => stored.demand_definition(definition_id),
            None => Ok(()),
        }
    }

    /// Returns what a person is to decide: where the watermark is, where it goes, what follows.
    pub fn question(&self, stored: &Watermark) -> String {
        let (from, to) = (stored.time, self.target.time);
        let consequence = match (from, to) {
            (_, None) => "The next cycle lists everything.",
            (Some(from), Some(to)) if to < from => {
                "The next cycle looks again at what lies between."
            }
            _ => "What was validated before it will not be pulled by a plain cycle.",
        };
        format!(
            "Move the watermark from {} to {}? {consequence}",
            shown(from),
            shown(to)
        )
    }

    /// Reads the watermark that a person is to be asked about.
    pub fn read(&self, store: &mut Store) -> Result<Watermark> {
        let stored = store.transaction(Stage::Prepare, Access::ReadOnly, read)?;
        self.may_leave(&stored)?;
        Ok(stored)
    }

    /// Moves the watermark and records that as a run, in one transaction. What a person was `asked`
    /// about must still be so: a yes to another question is none.
    pub fn make(&self, store: &mut Store, asked: Option<&Watermark>) -> Result<String> {
        let before = store.transaction(Stage::Advance, Access::ReadWrite, |tx| {
            let locked = lock(tx, false)?;
            self.may_leave(&locked)?;
            if asked.is_some_and(|asked| *asked != locked) {
                return Err(refused(
                    "Nothing was changed: the watermark moved while you were asked; run it again",
                )
                .into());
            }
            put(tx, &self.target)?;
            let mut account = SharedAccount::open(false, None).lock().clone();
            account.summary.watermark_before = locked.time;
            account.summary.watermark = self.target.time;
            runs::record(tx, self.kind, &account, None)?;
            Ok(locked)
        })?;
        Ok(format!(
            "The watermark was {}, and is {} now\n",
            shown(before.time),
            shown(self.target.time)
        ))
    }
}

/// Makes sure that somebody can be asked.
pub fn demand_terminal() -> Result<()> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    Err(refused(
        "There is no terminal to ask on; say --yes to move the watermark",
    ))
}

/// Asks on the terminal, and waits for the answer as long as it takes.
pub fn ask(question: &str) -> Result<()> {
    // A closed standard error cannot show the question; the answer decides all the same.
    let _ = write!(io::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(refused("Nothing was changed: the answer was not yes")),
    }
}

fn refused(message: &str) -> Failure {
    Failure::new(Stage::Prepare, Reason::Usage, message)
}

fn shown(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "none".to_owned(), rfc3339)
}
