//! `watermark set` and `watermark reset`: an operator moves the watermark.

use std::io::{self, BufRead, IsTerminal, Write};

use chrono::{DateTime, Utc};
use serde_json::json;

use super::transact;
use crate::cli;
use crate::config::Settings;
use crate::db::transaction::{Access, Tx};
use crate::db::url::DatabaseUrl;
use crate::error::{Failure, Reason, Result, Stage};
use crate::output::stdout::Answer;
use crate::process::deadline::Deadline;
use crate::process::supervise::supervise;
use crate::state::runs::{self, Run};
use crate::state::summary::Summary;
use crate::state::watermark::{Watermark, lock, put, read};
use crate::types::time::{rfc3339, shown};

/// Moves the watermark by hand; asks for confirmation first unless `--yes` is given.
///
/// `set` moves it and what is skipped before it, either way; `reset` clears both and frees the
/// definition.
pub fn run(settings: Settings, action: cli::Watermark) -> Result<Answer> {
    let (database, target, yes) = settings.load(|it| match action {
        cli::Watermark::Set { time, yes } => {
            let (time, definition_id) = (it.time("TIME", &time), it.definition_id());
            let database = it.database();
            let (time, definition_id) = (Some(time?), Some(definition_id?));
            let target = Watermark { definition_id, time, skip_before: time, updated_at: None };
            Some((database?, target, yes))
        }
        cli::Watermark::Reset { yes } => Some((it.database()?, Watermark::default(), yes)),
    })?;
    let asked = match yes {
        true => None,
        false => Some(confirm(&database, &target)?),
    };
    let moved = target.clone();
    let before =
        transact(&database, Access::ReadWrite, move |tx| change(tx, &moved, asked.as_ref()))?;
    Ok(Answer {
        text: format!("The watermark was {}, and is {} now\n", shown(before), shown(target.time)),
        json: Some(json!({
            "definition_id": target.definition_id,
            "watermark_before": before.map(rfc3339),
            "watermark": target.time.map(rfc3339),
            "skip_before": target.skip_before.map(rfc3339),
        })),
    })
}

/// Asks for confirmation; returns the watermark that the question was about.
///
/// The operator's time to answer is not limited, and neither a transaction nor a connection is open
/// meanwhile.
fn confirm(database: &DatabaseUrl, target: &Watermark) -> Result<Watermark> {
    if !io::stdin().is_terminal() {
        let message = "There is no terminal to confirm on; pass --yes to move the watermark";
        return Err(refused(message));
    }
    let stored = transact(database, Access::ReadOnly, read)?;
    require_movable(&stored, target)?;
    let consequence = match target.time {
        Some(_) => "Entries validated before it and never handled will be skipped.",
        None => "No entry will be skipped: each that was never handled will be created.",
    };
    let (from, to) = (shown(stored.time), shown(target.time));
    let answered = supervise(&Deadline::signal_only(), move || {
        ask(&format!("Move the watermark from {from} to {to}? {consequence}"))
    });
    if matches!(&answered, Err(failure) if failure.reason == Reason::Interrupted) {
        end_line();
    }
    answered.map(|()| stored)
}

/// Asks on the terminal, and waits for the answer without a limit.
fn ask(question: &str) -> Result<()> {
    // A closed standard error cannot show the question; the answer decides all the same.
    let _ = write!(io::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if !answer.ends_with('\n') {
        end_line();
    }
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(refused("Nothing was changed: the answer was not yes")),
    }
}

/// Ends the line of a question that got no line as its answer.
fn end_line() {
    let _ = writeln!(io::stderr().lock());
}

/// Moves the watermark and records that as a run; returns where it was. The watermark that was
/// `asked` about must be unchanged, since the confirmation was for that one.
fn change(
    tx: &mut Tx<'_>,
    target: &Watermark,
    asked: Option<&Watermark>,
) -> Result<Option<DateTime<Utc>>> {
    tx.enter(Stage::Advance);
    let locked = lock(tx)?;
    require_movable(&locked, target)?;
    if asked.is_some_and(|asked| *asked != locked) {
        let message = "Nothing was changed: the watermark moved while you were asked; run it again";
        return Err(refused(message));
    }
    put(tx, target)?;
    let kind = match target.time {
        Some(_) => "watermark set",
        None => "watermark reset",
    };
    let summary =
        Summary { watermark_before: locked.time, watermark: target.time, ..Summary::default() };
    runs::record(tx, kind, &Run::start(summary), None)?;
    Ok(locked.time)
}

/// Refuses to move the watermark of another definition; to free it is no such move.
fn require_movable(stored: &Watermark, target: &Watermark) -> Result<()> {
    match &target.definition_id {
        Some(definition_id) => stored.require_definition(definition_id),
        None => Ok(()),
    }
}

fn refused(message: &str) -> Failure {
    Failure::new(Stage::Prepare, Reason::Usage, message)
}
