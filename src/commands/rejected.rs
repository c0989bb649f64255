//! `rejected list` and `rejected accept`: what failed validation, and a person's decision about it.

use chrono::{DateTime, Utc};
use postgres::types::Type;
use serde::Serialize;
use serde_json::json;

use crate::cli;
use crate::config::{Format, Settings};
use crate::db::transaction::{Access, Columns, Store, Tx, TxError};
use crate::error::{Failure, Reason, Result, Stage};
use crate::output::columns;
use crate::output::escape::escape;
use crate::output::stdout::document;
use crate::process::supervise::in_time;
use crate::state::watermark;
use crate::types::DemandeId;
use crate::types::time::rfc3339;

const LIST_REJECTIONS: &str = include_str!("../../sql/list_rejections.sql");
const FIND_REJECTION: &str = include_str!("../../sql/find_rejection.sql");
const ACCEPT_REJECTION: &str = include_str!("../../sql/accept_rejection.sql");

/// Lists the rejections, or accepts one.
pub fn run(settings: Settings, action: cli::Rejected) -> Result<String> {
    let format = settings.format();
    match action {
        cli::Rejected::List => {
            let database = settings.load(Settings::database)?;
            in_time(move |deadline| list(&mut Store::new(&database.url, deadline, 0), format))
        }
        cli::Rejected::Accept { id, reason } => {
            let (database, id, reason) = settings.load(move |it| {
                // Whatever a public id is like, blanks included, it can be named.
                let id = it.argument("ID", not_blank(&id).map(|_| id.clone()));
                let reason = it.argument("--reason", not_blank(&reason));
                Some((it.database()?, id?, reason?))
            })?;
            let accepted = in_time(move |deadline| {
                accept(&mut Store::new(&database.url, deadline, 0), &id, &reason)
            })?;
            Ok(accepted.shown(format))
        }
    }
}

fn not_blank(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("is blank".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// A rejection that is not closed.
#[derive(Debug, Serialize)]
pub struct Rejection {
    /// `D5`, a public id or a digest.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The demande's number.
    pub demande_id: Option<i64>,
    /// Its public id.
    pub datapass_authorization_id: Option<String>,
    /// Field and rule of each fault.
    pub reasons: Vec<String>,
    /// The validation time that it holds the watermark at.
    #[serde(serialize_with = "optional_time")]
    pub last_validated_at: Option<DateTime<Utc>>,
    /// When a cycle first rejected it.
    #[serde(serialize_with = "time")]
    pub first_seen_at: DateTime<Utc>,
    /// When a cycle last did.
    #[serde(serialize_with = "time")]
    pub last_seen_at: DateTime<Utc>,
    /// How many cycles did.
    pub times_seen: i64,
    /// When a person accepted it.
    #[serde(serialize_with = "optional_time")]
    pub accepted_at: Option<DateTime<Utc>>,
    /// Why, in the person's words.
    pub accepted_reason: Option<String>,
}

fn time<S: serde::Serializer>(time: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&rfc3339(*time))
}

fn optional_time<S: serde::Serializer>(
    time: &Option<DateTime<Utc>>,
    to: S,
) -> Result<S::Ok, S::Error> {
    time.map(rfc3339).serialize(to)
}

/// Reads the rejections that are open or accepted, oldest validation first.
pub fn read(tx: &mut Tx<'_>) -> Result<Vec<Rejection>, TxError> {
    let rows = tx.rows("read the rejections", LIST_REJECTIONS, &[])?;
    let rejections = rows.iter().map(|row| {
        Ok(Rejection {
            reference: row.column(0)?,
            demande_id: row.column(1)?,
            datapass_authorization_id: row.column(2)?,
            reasons: row.column(3)?,
            last_validated_at: row.time(4)?,
            first_seen_at: row.column(5)?,
            last_seen_at: row.column(6)?,
            times_seen: row.column(7)?,
            accepted_at: row.time(8)?,
            accepted_reason: row.column(9)?,
        })
    });
    rejections.collect()
}

/// Lists the rejections, the id first.
fn list(store: &mut Store, format: Format) -> Result<String> {
    let rejections = store.transaction(Stage::Prepare, Access::ReadOnly, read)?;
    if format == Format::Json {
        return Ok(document(&json!(rejections)));
    }
    let mut text = String::new();
    for it in &rejections {
        let state = match (&it.accepted_at, &it.accepted_reason) {
            (None, _) => "open".to_owned(),
            (Some(at), reason) => format!(
                "accepted {}: {}",
                at.format("%F"),
                reason.as_deref().unwrap_or("no reason")
            ),
        };
        let times = match it.times_seen {
            1 => "once".to_owned(),
            times => format!("{times} times"),
        };
        let seen = format!(
            "seen {times}, first {}, last {} (UTC); {state}",
            it.first_seen_at.format("%F %R"),
            it.last_seen_at.format("%F %R"),
        );
        text.push_str(&escape(&it.reference));
        text.push('\n');
        text.push_str(&columns::entry("    ", &it.reasons.join(", ")));
        text.push_str(&columns::entry("    ", &seen));
    }
    Ok(text)
}

/// An acceptance: the one that was given, or an earlier one that stays.
struct Accepted {
    reference: String,
    earlier: Option<(DateTime<Utc>, String)>,
}

impl Accepted {
    fn shown(&self, format: Format) -> String {
        let reference = escape(&self.reference);
        match (format, &self.earlier) {
            (Format::Json, earlier) => document(&json!({
                "ref": self.reference,
                "changed": earlier.is_none(),
            })),
            (Format::Text, None) => format!("Accepted {reference}\n"),
            (Format::Text, Some((at, reason))) => {
                let (day, reason) = (at.format("%F"), escape(reason));
                format!("{reference} is accepted since {day} already: {reason}\n")
            }
        }
    }
}

/// A row that an id may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    reference: String,
    closed: bool,
    /// When it was accepted, and why.
    accepted: Option<(DateTime<Utc>, String)>,
}

/// Accepts a rejected entry as it is, for the validation that it has now. The first acceptance of
/// that validation stays: a second one changes nothing, and says so.
///
/// Takes the watermark's lock first, so that a cycle that records the same entry meanwhile cannot
/// undo the decision.
fn accept(store: &mut Store, id: &str, reason: &str) -> Result<Accepted> {
    let number = id.parse::<DemandeId>().ok().map(|it| it.to_string());
    store.transaction(Stage::Prepare, Access::ReadWrite, |tx| {
        watermark::lock(tx, tx.access())?;
        let rows = tx.rows(
            "find the rejection",
            FIND_REJECTION,
            &[(&number, Type::TEXT), (&id, Type::TEXT)],
        )?;
        let found = rows.iter().map(|row| {
            let accepted_at: Option<DateTime<Utc>> = row.time(2)?;
            let reason: Option<String> = row.column(3)?;
            Ok(Found {
                reference: row.column(0)?,
                closed: row.column(1)?,
                accepted: accepted_at.map(|at| (at, reason.unwrap_or_default())),
            })
        });
        let found = found.collect::<Result<Vec<Found>, TxError>>()?;
        let meant = meant(id, number.as_deref(), found)?;
        if meant.accepted.is_none() {
            tx.execute(
                "accept the rejection",
                ACCEPT_REJECTION,
                &[(&meant.reference, Type::TEXT), (&reason, Type::TEXT)],
            )?;
        }
        Ok(Accepted {
            reference: meant.reference,
            earlier: meant.accepted,
        })
    })
}

/// Picks the row that an id means, of those that have it as their reference or public id; `number`
/// is the reference of the demande with that number, when the id can be read as one.
///
/// `D5` means the demande. Bare digits may be a public id as well: when they are another entry's,
/// neither is guessed.
fn meant(id: &str, number: Option<&str>, found: Vec<Found>) -> Result<Found> {
    let (numbered, mut named): (Vec<Found>, Vec<Found>) = found
        .into_iter()
        .partition(|it| Some(&*it.reference) == number);
    if id.starts_with('D') && !numbered.is_empty() {
        named.clear();
    }
    // A public id may be filed under several references in the course of time.
    if named.iter().any(|it| !it.closed) {
        named.retain(|it| !it.closed);
    }
    let mut candidates = [numbered, named].concat();
    let refused = |message: &str| Err(Failure::new(Stage::Prepare, Reason::Usage, message));
    if candidates.is_empty() {
        return refused("No rejected entry has this id; see `datapass-pull rejected list`");
    }
    if candidates.iter().all(|it| it.closed) {
        return refused("This entry is not rejected any more: it passed, or left the listing");
    }
    if candidates.len() > 1 {
        let names: Vec<&str> = candidates.iter().map(|it| &*it.reference).collect();
        let names = names.join(" or ");
        return refused(&format!(
            "This id is that of more than one entry: say {names}"
        ));
    }
    Ok(candidates.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_means_one_entry_or_none() {
        let rows = |words: &str| -> Vec<Found> {
            let word = |word: &str| Found {
                reference: word.trim_end_matches('-').to_owned(),
                closed: word.ends_with('-'),
                accepted: None,
            };
            words.split_whitespace().map(word).collect()
        };
        // The rows found, `-` behind a closed one, and what is meant or told.
        for (id, number, found, expected) in [
            ("5", Some("D5"), "D5", "D5"),
            ("D5", Some("D5"), "D5", "D5"),
            ("D5", Some("D5"), "D5 D7", "D5"),
            ("D5", Some("D5"), "D5- D7", "not rejected any more"),
            ("D5", Some("D5"), "D7", "D7"),
            ("5", Some("D5"), "D7", "D7"),
            ("5", Some("D5"), "D5 D7", "say D5 or D7"),
            ("5", Some("D5"), "D5- D7", "say D5 or D7"),
            ("5", Some("D5"), "D5 D7-", "say D5 or D7"),
            ("5", Some("D5"), "D5- D7-", "not rejected any more"),
            ("x", None, "x", "x"),
            ("x", None, "D5 x-", "D5"),
            ("x", None, "D5- x", "x"),
            ("x", None, "D5 D7", "say D5 or D7"),
            ("x", None, "D5 D7 x-", "say D5 or D7"),
            ("x", None, "x- D5-", "not rejected any more"),
            ("x", None, "", "No rejected entry"),
        ] {
            let told = match meant(id, number, rows(found)) {
                Ok(it) => it.reference,
                Err(failure) => failure.message,
            };
            assert!(told.contains(expected), "{id} of {found}: {told}");
        }
    }
}
