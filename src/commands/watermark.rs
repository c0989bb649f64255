//! `watermark set` and `watermark reset`: an operator moves the watermark.

use std::io::{self, BufRead, IsTerminal, Write};

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::cli;
use crate::config::{DatabaseConfig, Format, Settings};
use crate::db::transaction::{Access, Store};
use crate::error::{Failure, Reason, Result, Stage};
use crate::output::stdout::document;
use crate::process::deadline::Deadline;
use crate::process::supervise::{in_time, supervise};
use crate::state::runs::{self, Run};
use crate::state::summary::Summary;
use crate::state::watermark::{Watermark, lock, put, read};
use crate::types::time::{rfc3339, shown};

/// Moves the watermark by hand; asks for confirmation first unless `--yes` is given.
pub fn run(settings: Settings, action: cli::Watermark) -> Result<String> {
    let format = settings.format();
    let (database, asked_for, yes) = settings.load(|it| match action {
        cli::Watermark::Set { time, yes } => {
            let (time, definition_id) = (it.time("TIME", &time), it.definition_id());
            let database = it.database();
            Some((database?, Move::set(definition_id?, time?), yes))
        }
        cli::Watermark::Reset { yes } => Some((it.database()?, Move::reset(), yes)),
    })?;
    let target = asked_for.target.clone();
    let asked = match yes {
        true => None,
        false => Some(confirm(&database, &asked_for)?),
    };
    let before = in_time(move |deadline| {
        asked_for.make(&Store::new(&database.url, deadline, 0), asked.as_ref())
    })?;
    let before = before.time;
    Ok(match format {
        Format::Json => document(&json!({
            "definition_id": target.definition_id,
            "watermark_before": before.map(rfc3339),
            "watermark": target.time.map(rfc3339),
            "skip_before": target.skip_before.map(rfc3339),
        })),
        Format::Text => {
            format!("The watermark was {}, and is {} now\n", shown(before), shown(target.time))
        }
    })
}

/// A move by hand, as it was requested.
#[derive(Debug, Clone)]
struct Move {
    kind: &'static str,
    target: Watermark,
}

impl Move {
    /// Sets the watermark and what is skipped before it, either way.
    fn set(definition_id: String, time: DateTime<Utc>) -> Self {
        Self {
            kind: "watermark set",
            target: Watermark {
                definition_id: Some(definition_id),
                time: Some(time),
                skip_before: Some(time),
                updated_at: None,
            },
        }
    }

    /// Clears both, and frees the definition.
    fn reset() -> Self {
        Self { kind: "watermark reset", target: Watermark::default() }
    }

    /// Refuses to move the watermark of another definition; to free it is no such move.
    fn may_leave(&self, stored: &Watermark) -> Result<()> {
        match &self.target.definition_id {
            Some(definition_id) => stored.require_definition(definition_id),
            None => Ok(()),
        }
    }

    /// Returns the question to confirm: where the watermark is, where it goes, and what is skipped.
    fn question(&self, stored: &Watermark) -> String {
        let consequence = match self.target.time {
            Some(_) => "Entries validated before it and never handled will be skipped.",
            None => "No entry will be skipped: each that was never handled will be created.",
        };
        format!(
            "Move the watermark from {} to {}? {consequence}",
            shown(stored.time),
            shown(self.target.time)
        )
    }

    /// Reads the watermark that the question is about.
    fn read(&self, store: &Store) -> Result<Watermark> {
        let stored = store.transaction(Stage::Prepare, Access::ReadOnly, read)?;
        self.may_leave(&stored)?;
        Ok(stored)
    }

    /// Moves the watermark and records that as a run, in one transaction. The watermark that was
    /// `asked` about must be unchanged, since the confirmation was for that one. Returns the one before.
    fn make(&self, store: &Store, asked: Option<&Watermark>) -> Result<Watermark> {
        store.transaction(Stage::Advance, Access::ReadWrite, |tx| {
            let locked = lock(tx)?;
            self.may_leave(&locked)?;
            if asked.is_some_and(|asked| *asked != locked) {
                return Err(refused(
                    "Nothing was changed: the watermark moved while you were asked; run it again",
                )
                .into());
            }
            put(tx, &self.target)?;
            let run = Run::start(Summary {
                watermark_before: locked.time,
                watermark: self.target.time,
                ..Summary::default()
            });
            runs::record(tx, self.kind, &run, None)?;
            Ok(locked)
        })
    }
}

/// Refuses to ask where there is no terminal.
fn require_terminal() -> Result<()> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    Err(refused("There is no terminal to confirm on; pass --yes to move the watermark"))
}

/// Asks on the terminal, and waits for the answer without a limit.
fn ask(question: &str) -> Result<()> {
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

/// Asks for confirmation; returns the watermark that the question was about.
///
/// The operator's time to answer is not limited, and neither a transaction nor a connection is open
/// meanwhile.
fn confirm(database: &DatabaseConfig, asked_for: &Move) -> Result<Watermark> {
    require_terminal()?;
    let (url, reading) = (database.url.clone(), asked_for.clone());
    let stored = in_time(move |deadline| reading.read(&Store::new(&url, deadline, 0)))?;
    let question = asked_for.question(&stored);
    supervise(&Deadline::signal_only(), move || ask(&question))?;
    Ok(stored)
}
