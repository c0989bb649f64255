//! The rejections table: entries that cannot have a row, and what an operator accepted of them.
//!
//! A rejected entry is *open*: it is retried by every plain cycle and holds the watermark. An
//! operator may *accept* it for the validation that it has; validated again, it is open anew. One
//! that passes or leaves the listing is *closed*, and keeps its acceptance for when it returns.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use postgres::types::Type;
use serde::Serialize;
use serde_json::{Value, json};

use crate::db::tables::REJECTIONS;
use crate::db::transaction::{Param, Tx, not_written, read_time};
use crate::error::Result;
use crate::types::DemandeId;
use crate::types::entry::Entry;
use crate::types::time;

const LIST: &str = include_str!("../../sql/list_rejections.sql");
const FIND: &str = include_str!("../../sql/find_rejections.sql");
const ACCEPT: &str = include_str!("../../sql/accept_rejection.sql");
const REOPEN: &str = include_str!("../../sql/reopen_rejection.sql");
const TRACKED: &str = include_str!("../../sql/tracked_rejections.sql");
const RECORD: &str = include_str!("../../sql/record_rejections.sql");
const CLOSE: &str = include_str!("../../sql/close_rejections.sql");

/// The rejections that are not closed or were accepted, by reference.
pub type KnownRejections = HashMap<String, KnownRejection>;

/// What the table holds of a rejected entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownRejection {
    /// Whether an operator accepted it, for the validation at `last_validated_at`.
    pub is_accepted: bool,
    /// The validation that was rejected last.
    pub last_validated_at: Option<DateTime<Utc>>,
    /// Whether it passed or left the listing.
    pub is_closed: bool,
    /// How many cycles rejected it.
    pub times_seen: i64,
}

impl KnownRejection {
    /// Returns whether it is accepted for this validation.
    pub fn accepts(&self, last_validated_at: Option<DateTime<Utc>>) -> bool {
        self.is_accepted && self.last_validated_at == last_validated_at
    }
}

/// Reads the rejections that are not closed or were accepted.
pub fn known(tx: &mut Tx<'_>) -> Result<KnownRejections> {
    let known = tx.rows("read the rejections", TRACKED, &[], |row| {
        let known = KnownRejection {
            is_accepted: row.try_get(1)?,
            last_validated_at: read_time(row, 2)?,
            is_closed: row.try_get(3)?,
            times_seen: row.try_get(4)?,
        };
        Ok((row.try_get(0)?, known))
    })?;
    Ok(known.into_iter().collect())
}

/// Records rejected entries, and those whose acceptance holds.
pub fn record(tx: &mut Tx<'_>, rejected: &[&Entry], accepted: &[&Entry]) -> Result<()> {
    let rows = rejected.iter().chain(accepted).map(|entry| {
        json!({
            "ref": entry.reference,
            "demande_id": entry.demande_id.map(DemandeId::get),
            "datapass_authorization_id": entry.public_id(),
            "reasons": entry.reasons(),
            "last_validated_at": entry.time(),
        })
    });
    let rows: Vec<Value> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    let accepted: Vec<&str> = accepted.iter().map(|entry| &*entry.reference).collect();
    let params: [Param<'_>; 2] =
        [(&Value::Array(rows), Type::JSONB), (&accepted, Type::TEXT_ARRAY)];
    tx.execute("record the rejections", RECORD, &params)?;
    Ok(())
}

/// Closes those of the rejections, by reference, that no cycle recorded since they were read.
pub fn close(tx: &mut Tx<'_>, over: &[(&str, KnownRejection)]) -> Result<()> {
    if over.is_empty() {
        return Ok(());
    }
    let (references, times_seen): (Vec<&str>, Vec<i64>) =
        over.iter().map(|(reference, known)| (*reference, known.times_seen)).unzip();
    let params: [Param<'_>; 2] = [(&references, Type::TEXT_ARRAY), (&times_seen, Type::INT8_ARRAY)];
    tx.execute("close rejections", CLOSE, &params)?;
    Ok(())
}

/// A rejected entry, as an operator sees it: its JSON has the names of the table's columns, and the
/// state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// `D5`, a public id or a digest.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Its public id.
    #[serde(rename = "datapass_authorization_id")]
    pub public_id: Option<String>,
    /// The demande's number.
    pub demande_id: Option<i64>,
    /// The validation that was rejected last.
    #[serde(serialize_with = "time::serialize")]
    pub last_validated_at: Option<DateTime<Utc>>,
    /// What an operator has to do about it.
    pub state: State,
    /// Field and rule of each fault.
    pub reasons: Vec<String>,
    /// When an operator accepted it.
    #[serde(serialize_with = "time::serialize")]
    pub accepted_at: Option<DateTime<Utc>>,
    /// Why.
    pub accepted_reason: Option<String>,
    /// When a cycle first rejected it.
    #[serde(serialize_with = "time::serialize")]
    pub first_seen_at: Option<DateTime<Utc>>,
    /// When a cycle last did.
    #[serde(serialize_with = "time::serialize")]
    pub last_seen_at: Option<DateTime<Utc>>,
    /// How many cycles did.
    pub times_seen: i64,
}

/// The state of a rejected entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for a correction or a decision.
    Open,
    /// An operator accepted it as it is.
    Accepted,
    /// It passed or left the listing, whether it was accepted or not.
    Closed,
}

/// Lists the rejections that are open or accepted, oldest validation first.
pub fn list(tx: &mut Tx<'_>) -> Result<Vec<Rejection>> {
    select(tx, LIST, &[])
}

/// Finds the rejections that have `number` or `id` as their reference, or `id` as their public id;
/// closed ones too.
pub fn find(tx: &mut Tx<'_>, number: Option<&str>, id: &str) -> Result<Vec<Rejection>> {
    select(tx, FIND, &[(&number, Type::TEXT), (&id, Type::TEXT)])
}

/// Accepts an entry as it is, for the validation that it has now.
pub fn accept(tx: &mut Tx<'_>, reference: &str, reason: &str) -> Result<Rejection> {
    let params: [Param<'_>; 2] = [(&reference, Type::TEXT), (&reason, Type::TEXT)];
    tx.execute("accept the rejection", ACCEPT, &params)?;
    stored(tx, reference, |it| it.accepted_at.is_some())
}

/// Withdraws the acceptance of an entry.
pub fn reopen(tx: &mut Tx<'_>, reference: &str) -> Result<Rejection> {
    tx.execute("reopen the rejection", REOPEN, &[(&reference, Type::TEXT)])?;
    stored(tx, reference, |it| it.accepted_at.is_none())
}

/// Returns the entry after a change that must have been stored: a trigger or a rule may swallow it.
fn stored(
    tx: &mut Tx<'_>,
    reference: &str,
    is_changed: impl Fn(&Rejection) -> bool,
) -> Result<Rejection> {
    let mut found = find(tx, None, reference)?.into_iter();
    found
        .find(|it| it.reference == reference && is_changed(it))
        .ok_or_else(|| not_written(REJECTIONS))
}

fn select(tx: &mut Tx<'_>, sql: &str, params: &[Param<'_>]) -> Result<Vec<Rejection>> {
    tx.rows("read the rejections", sql, params, |row| {
        let accepted_at = read_time(row, 8)?;
        Ok(Rejection {
            reference: row.try_get(0)?,
            demande_id: row.try_get(1)?,
            public_id: row.try_get(2)?,
            reasons: row.try_get(3)?,
            last_validated_at: read_time(row, 4)?,
            first_seen_at: read_time(row, 5)?,
            last_seen_at: read_time(row, 6)?,
            times_seen: row.try_get(7)?,
            accepted_at,
            accepted_reason: row.try_get(9)?,
            state: match (row.try_get(10)?, accepted_at) {
                (true, _) => State::Closed,
                (false, Some(_)) => State::Accepted,
                (false, None) => State::Open,
            },
        })
    })
}
