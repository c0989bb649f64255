//! `rejected list` and `rejected accept`: what failed validation, and a person's decision about it.

use chrono::{DateTime, Utc};
use postgres::types::Type;
use serde::Serialize;

use crate::columns;
use crate::config::Format;
use crate::error::{Failure, Reason, Result, Stage};
use crate::logging::escape;
use crate::report::rfc3339;
use crate::store::{Access, Store, Tx, TxError};
use crate::watermark;

const LIST_REJECTIONS: &str = include_str!("../sql/list_rejections.sql");
const FIND_REJECTION: &str = include_str!("../sql/find_rejection.sql");
const ACCEPT_REJECTION: &str = include_str!("../sql/accept_rejection.sql");

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
    let rejections = rows.iter().map(|row| Rejection {
        reference: row.get(0),
        demande_id: row.get(1),
        datapass_authorization_id: row.get(2),
        reasons: row.get(3),
        last_validated_at: row.get(4),
        first_seen_at: row.get(5),
        last_seen_at: row.get(6),
        times_seen: row.get(7),
        accepted_at: row.get(8),
        accepted_reason: row.get(9),
    });
    Ok(rejections.collect())
}

/// Lists the rejections, the id first. The text fits 80 columns, but for an id that is longer: it is
/// never broken, so that it can be copied.
pub fn list(store: &mut Store, format: Format) -> Result<String> {
    let rejections = store.transaction(Stage::Prepare, Access::ReadOnly, read)?;
    if format == Format::Json {
        return Ok(format!("{}\n", serde_json::json!(rejections)));
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

/// Accepts a rejected entry as it is, for the validation that it has now.
///
/// Takes the watermark's lock first, so that a cycle that records the same entry meanwhile cannot
/// undo the decision.
pub fn accept(store: &mut Store, id: &str, reason: &str) -> Result<String> {
    let refused = |reason, message: &str| Failure::new(Stage::Prepare, reason, message);
    // The number alone means the demande of that number.
    let reference = match id.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("D{id}"),
        false => id.to_owned(),
    };
    store.transaction(Stage::Prepare, Access::ReadWrite, |tx| {
        watermark::lock(tx, false)?;
        let rows = tx.rows(
            "find the rejection",
            FIND_REJECTION,
            &[(&reference, Type::TEXT), (&id, Type::TEXT)],
        )?;
        let found: Option<(String, bool)> = rows.first().map(|row| (row.get(0), row.get(1)));
        match found {
            None => Err(refused(
                Reason::Usage,
                "No rejected entry has this id; see `datapass-pull rejected list`",
            )
            .into()),
            Some((_, true)) => Err(refused(
                Reason::Usage,
                "This entry is not rejected any more: it passed, or left the listing",
            )
            .into()),
            Some((reference, false)) => {
                tx.execute(
                    "accept the rejection",
                    ACCEPT_REJECTION,
                    &[(&reference, Type::TEXT), (&reason, Type::TEXT)],
                )?;
                Ok(format!("Accepted {}\n", escape(&reference)))
            }
        }
    })
}
