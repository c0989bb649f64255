//! `watermark set` and `watermark reset`: an operator moves the watermark.

use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{refused, transact};
use crate::cli;
use crate::config::Settings;
use crate::db::transaction::{Access, Tx};
use crate::db::url::DatabaseUrl;
use crate::error::{Result, Stage};
use crate::output::stdout::Answer;
use crate::process::deadline::Deadline;
use crate::process::supervise::supervise;
use crate::state::runs::{self, Run};
use crate::state::summary::Summary;
use crate::state::watermark::{Watermark, lock, put};
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
    let asked = (!yes).then(|| confirm(&database, &target)).transpose()?;
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
    let wanted = target.clone();
    let stored = transact(database, Access::ReadOnly, move |tx| lock_movable(tx, &wanted))?;
    let consequence = match target.time {
        Some(_) => "Entries validated before it and never handled will be skipped.",
        None => "No entry will be skipped: each that was never handled will be created.",
    };
    let (from, to) = (shown(stored.time), shown(target.time));
    let answer = supervise(&Deadline::signal_only(), move || {
        // A closed standard error cannot show the question; the answer decides all the same.
        let _ =
            write!(io::stderr(), "Move the watermark from {from} to {to}? {consequence} [y/N] ");
        let mut answer = String::new();
        // What cannot be read is not yes.
        let _ = io::stdin().read_line(&mut answer);
        Ok(answer)
    });
    // The end of the input or a signal leaves the cursor behind the question.
    if !answer.as_ref().is_ok_and(|line| line.ends_with('\n')) {
        let _ = writeln!(io::stderr());
    }
    match answer?.trim() {
        "y" | "Y" | "yes" => Ok(stored),
        _ => Err(refused("Nothing was changed: the answer was not yes")),
    }
}

/// Moves the watermark and records that as a run; returns where it was. The watermark that was
/// `asked` about must be unchanged, since the confirmation was for that one.
fn change(
    tx: &mut Tx<'_>,
    target: &Watermark,
    asked: Option<&Watermark>,
) -> Result<Option<DateTime<Utc>>> {
    tx.enter(Stage::Advance);
    let locked = lock_movable(tx, target)?;
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

/// Takes the watermark's lock, and refuses to move that of another definition; to free it is no such
/// move.
fn lock_movable(tx: &mut Tx<'_>, target: &Watermark) -> Result<Watermark> {
    let locked = lock(tx)?;
    if let Some(definition_id) = &target.definition_id {
        locked.require_definition(definition_id)?;
    }
    Ok(locked)
}
