//! `rejected`: lists the entries that failed validation, accepts one, or reopens it.

use serde_json::json;

use super::{refused, transact};
use crate::cli;
use crate::config::Settings;
use crate::db::transaction::{Access, Tx};
use crate::error::Result;
use crate::output::columns;
use crate::output::escape::escape;
use crate::output::stdout::Answer;
use crate::state::rejections::{self, Rejection, State};
use crate::state::watermark;
use crate::types::DemandeId;
use crate::types::time::shown;

/// What an operator decides about an entry.
#[derive(Debug)]
enum Decision {
    /// It makes no row, for this reason.
    Accept(String),
    /// It is rejected again.
    Reopen,
}

/// Lists the rejections, or decides about one.
///
/// As JSON, the list is an array of entries, and a decision is the entry as it is then.
pub fn run(settings: Settings, action: cli::Rejected) -> Result<Answer> {
    let (id, reason) = match action {
        cli::Rejected::List => {
            let database = settings.load(Settings::database)?;
            return Ok(list(&transact(&database, Access::ReadOnly, rejections::list)?));
        }
        cli::Rejected::Accept { id, reason } => (id, Some(reason)),
        cli::Rejected::Reopen { id } => (id, None),
    };
    let (database, id, decision) = settings.load(move |it| {
        // Whatever a public id is like, blanks included, it can be named.
        let id = it.argument("ID", not_blank(&id).map(|_| id.clone()));
        let decision = match reason {
            Some(reason) => it.argument("--reason", not_blank(&reason)).map(Decision::Accept),
            None => Some(Decision::Reopen),
        };
        Some((it.database()?, id?, decision?))
    })?;
    let (entry, text) =
        transact(&database, Access::ReadWrite, move |tx| decide(tx, &id, &decision))?;
    Ok(Answer { text, json: Some(json!(entry)) })
}

fn not_blank(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("is blank".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// Lists the rejections, the id first. The text fits 80 columns, but for an id that is longer: it is
/// never broken, so that it can be copied.
fn list(rejections: &[Rejection]) -> Answer {
    let text = match rejections {
        [] => "No entry is rejected\n".to_owned(),
        some => some.iter().map(text).collect(),
    };
    Answer { text, json: Some(json!(rejections)) }
}

fn text(it: &Rejection) -> String {
    let state = match it.accepted_at {
        None => "open".to_owned(),
        Some(at) => format!("accepted {}: {}", at.format("%F"), reason(it)),
    };
    let public_id = it.public_id.as_deref().map_or_else(|| "none".to_owned(), escape);
    let mut text = format!("{}\n    public id   {public_id}\n", escape(&it.reference));
    for (label, value) in [
        ("validated", shown(it.last_validated_at)),
        ("reasons", it.reasons.join(", ")),
        ("state", state),
        ("first seen", shown(it.first_seen_at)),
        ("times seen", it.times_seen.to_string()),
    ] {
        text.push_str(&columns::entry(&format!("    {label:<12}"), &value));
    }
    text
}

/// Decides about an entry; returns it, and what happened as a sentence. An acceptance is for the
/// validation that the entry has now, and the first one stays.
///
/// Takes the watermark's lock first, so that a cycle that records the same entry meanwhile cannot
/// undo the decision.
fn decide(tx: &mut Tx<'_>, id: &str, decision: &Decision) -> Result<(Rejection, String)> {
    watermark::lock(tx)?;
    let number = id.parse::<DemandeId>().ok().map(|it| it.to_string());
    let found = rejections::find(tx, number.as_deref(), id)?;
    let entry = resolve(id, number.as_deref(), decision, found)?;
    let reference = escape(&entry.reference);
    Ok(match (decision, entry.accepted_at) {
        (Decision::Accept(_), Some(at)) => {
            let (day, reason) = (at.format("%F"), escape(reason(&entry)));
            let sentence = format!("{reference} is accepted since {day} already: {reason}\n");
            (entry, sentence)
        }
        (Decision::Accept(reason), None) => {
            (rejections::accept(tx, &entry.reference, reason)?, format!("Accepted {reference}\n"))
        }
        (Decision::Reopen, Some(_)) => {
            (rejections::reopen(tx, &entry.reference)?, format!("Reopened {reference}\n"))
        }
        (Decision::Reopen, None) => {
            let message = format!("{reference} is not accepted, so it cannot be reopened");
            return Err(refused(message));
        }
    })
}

fn reason(it: &Rejection) -> &str {
    it.accepted_reason.as_deref().unwrap_or("no reason")
}

/// Picks the entry that an id means, of those that have it as their reference or public id; `number`
/// is the reference of the demande with that number, when the id can be read as one.
///
/// `D5` means the demande. Bare digits may be a public id as well: when they are another entry's,
/// neither is guessed.
fn resolve(
    id: &str,
    number: Option<&str>,
    decision: &Decision,
    found: Vec<Rejection>,
) -> Result<Rejection> {
    let is_over = |it: &Rejection| match decision {
        Decision::Accept(_) => it.state == State::Closed,
        // An acceptance outlives the closure.
        Decision::Reopen => it.state == State::Closed && it.accepted_at.is_none(),
    };
    let (numbered, mut named): (Vec<Rejection>, Vec<Rejection>) =
        found.into_iter().partition(|it| Some(&*it.reference) == number);
    if id.starts_with('D') && !numbered.is_empty() {
        named.clear();
    }
    // A public id may be filed under several references in the course of time.
    if !named.iter().all(is_over) {
        named.retain(|it| !is_over(it));
    }
    match &[numbered, named].concat()[..] {
        [] => Err(refused("No rejected entry has this id; see `datapass-pull rejected list`")),
        all if all.iter().all(is_over) => {
            Err(refused("This entry is not rejected any more: it passed, or left the listing"))
        }
        [entry] => Ok(entry.clone()),
        several => {
            let names: Vec<&str> = several.iter().map(|it| &*it.reference).collect();
            let names = names.join(" or ");
            Err(refused(format!("This id is that of more than one entry: use {names}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_refers_to_one_entry_or_none() {
        // `-` behind a closed entry, `+` behind one that was accepted before it was closed.
        let rows = |words: &str| -> Vec<Rejection> {
            let word = |word: &str| Rejection {
                reference: word.trim_end_matches(['-', '+']).to_owned(),
                demande_id: None,
                public_id: None,
                reasons: Vec::new(),
                last_validated_at: None,
                first_seen_at: None,
                last_seen_at: None,
                times_seen: 1,
                accepted_at: word.ends_with('+').then(chrono::Utc::now),
                accepted_reason: None,
                state: match word.ends_with(['-', '+']) {
                    true => State::Closed,
                    false => State::Open,
                },
            };
            words.split_whitespace().map(word).collect()
        };
        let accept = Decision::Accept("closed school".to_owned());
        for (decision, id, number, found, expected) in [
            (&accept, "5", Some("D5"), "D5", "D5"),
            (&accept, "D5", Some("D5"), "D5", "D5"),
            (&accept, "D5", Some("D5"), "D5 D7", "D5"),
            (&accept, "D5", Some("D5"), "D5- D7", "not rejected any more"),
            (&accept, "D5", Some("D5"), "D7", "D7"),
            (&accept, "5", Some("D5"), "D7", "D7"),
            (&accept, "5", Some("D5"), "D5 D7", "use D5 or D7"),
            (&accept, "5", Some("D5"), "D5- D7", "use D5 or D7"),
            (&accept, "5", Some("D5"), "D5 D7-", "use D5 or D7"),
            (&accept, "5", Some("D5"), "D5- D7-", "not rejected any more"),
            (&accept, "x", None, "x", "x"),
            (&accept, "x", None, "D5 x-", "D5"),
            (&accept, "x", None, "D5- x", "x"),
            (&accept, "x", None, "D5 D7", "use D5 or D7"),
            (&accept, "x", None, "D5 D7 x-", "use D5 or D7"),
            (&accept, "x", None, "x- D5-", "not rejected any more"),
            (&accept, "x", None, "x+", "not rejected any more"),
            (&accept, "x", None, "", "No rejected entry"),
            (&Decision::Reopen, "x", None, "x- D5+", "D5"),
            (&Decision::Reopen, "x", None, "x- D5-", "not rejected any more"),
        ] {
            let resolved = match resolve(id, number, decision, rows(found)) {
                Ok(it) => it.reference,
                Err(failure) => failure.message,
            };
            assert!(resolved.contains(expected), "{id} of {found}: {resolved}");
        }
    }
}
