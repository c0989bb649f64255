//! `watermark set` and `watermark reset`: an operator moves the watermark.

use std::io::{self, BufRead, IsTerminal, Write};

use chrono::{DateTime, Utc};

use crate::cli;
use crate::config::{DatabaseConfig, Settings};
use crate::db::transaction::{Access, Store};
use crate::error::{Failure, Reason, Result, Stage};
use crate::process::deadline::Deadline;
use crate::process::supervise::{in_time, supervise};
use crate::state::runs::{self, Run};
use crate::state::summary::Summary;
use crate::state::watermark::{Watermark, lock, put, read};
use crate::types::time::shown;

/// Moves the watermark by hand; asks for confirmation first unless `--yes` is given.
pub fn run(settings: Settings, action: cli::Watermark) -> Result<String> {
    let (database, asked_for, yes) = settings.load(|it| match action {
        cli::Watermark::Set { time, yes } => {
            let (time, definition_id) = (it.time("TIME", &time), it.definition_id());
            let database = it.database();
            Some((database?, Move::set(definition_id?, time?), yes))
        }
        cli::Watermark::Reset { yes } => Some((it.database()?, Move::reset(), yes)),
    })?;
    move_watermark(database, asked_for, yes)
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
            let run = Run::start(Summary {
                watermark_before: locked.time,
                watermark: self.target.time,
                ..Summary::default()
            });
            runs::record(tx, self.kind, &run, None)?;
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

/// Moves the watermark by hand; asks first unless `yes`.
///
/// A person may think as long as they like: that is no part of any step's time, and neither a
/// transaction nor a connection is open meanwhile.
fn move_watermark(database: DatabaseConfig, asked_for: Move, yes: bool) -> Result<String> {
    let mut asked = None;
    if !yes {
        demand_terminal()?;
        let (database, reading) = (database.clone(), asked_for.clone());
        let stored =
            in_time(move |deadline| reading.read(&mut Store::new(&database.url, deadline, 0)))?;
        let question = asked_for.question(&stored);
        supervise(&Deadline::signal_only(), move || ask(&question))?;
        asked = Some(stored);
    }
    in_time(move |deadline| {
        asked_for.make(&mut Store::new(&database.url, deadline, 0), asked.as_ref())
    })
}
