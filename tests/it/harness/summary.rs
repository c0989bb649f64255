//! A strict parser of the summary line: its fields, their order and their formats.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// The fields after `outcome` and, on failures, `reason`.
const FIELDS: [&str; 19] = [
    "pages",
    "seen",
    "matched",
    "created",
    "late",
    "existing",
    "deleted",
    "revalidated",
    "rejected",
    "accepted",
    "skipped",
    "enqueued",
    "drift_rewinds",
    "since",
    "watermark_before",
    "watermark",
    "duration_ms",
    "dry_run",
    "run_id",
];

/// A summary line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub outcome: String,
    pub reason: Option<String>,
    pub pages: u64,
    pub seen: u64,
    pub matched: u64,
    pub created: u64,
    pub late: u64,
    pub existing: u64,
    pub deleted: u64,
    pub revalidated: u64,
    pub rejected: u64,
    pub accepted: u64,
    pub skipped: u64,
    pub enqueued: u64,
    pub drift_rewinds: u64,
    pub since: Option<DateTime<Utc>>,
    pub watermark_before: Option<DateTime<Utc>>,
    pub watermark: Option<DateTime<Utc>>,
    pub duration_ms: u64,
    pub dry_run: bool,
    pub run_id: String,
}

impl Summary {
    /// Parses the `key=value` format.
    pub fn from_text(line: &str) -> Result<Self, String> {
        let mut fields = Vec::new();
        for word in line.split(' ') {
            let (key, text) =
                word.split_once('=').ok_or_else(|| format!("`{word}` is not key=value"))?;
            // A value that is neither `none`, a boolean nor a number is a string.
            let value = match text {
                "none" => Value::Null,
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
            };
            fields.push((key.to_owned(), value));
        }
        Self::from_fields(fields)
    }

    /// Parses the JSON format.
    pub fn from_json(line: &str) -> Result<Self, String> {
        let mut decoder = serde_json::Deserializer::from_str(line);
        let fields = decoder.deserialize_map(InOrder).map_err(|error| error.to_string())?;
        decoder.end().map_err(|error| error.to_string())?;
        Self::from_fields(fields)
    }

    fn from_fields(fields: Vec<(String, Value)>) -> Result<Self, String> {
        let failed = fields.first().is_some_and(|(_, outcome)| outcome != "success");
        let expected: Vec<&str> =
            ["outcome"].into_iter().chain(failed.then_some("reason")).chain(FIELDS).collect();
        let found: Vec<&str> = fields.iter().map(|(key, _)| key.as_str()).collect();
        if found != expected {
            return Err(format!("the fields are {found:?}, not {expected:?}"));
        }
        let get = |name: &str| {
            fields.iter().find(|(key, _)| key == name).map(|(_, value)| value).ok_or("absent")
        };
        let word = |name: &str| {
            get(name)?.as_str().map(str::to_owned).ok_or(format!("{name} is not a string"))
        };
        let number = |name: &str| get(name)?.as_u64().ok_or(format!("{name} is not a number"));
        let time = |name: &str| match get(name)? {
            Value::Null => Ok(None),
            value => value
                .as_str()
                .and_then(exact_time)
                .map(Some)
                .ok_or(format!("{name} is not like 2026-05-18T10:00:00.000Z: {value}")),
        };
        let summary = Self {
            outcome: word("outcome")?,
            reason: if failed { Some(word("reason")?) } else { None },
            pages: number("pages")?,
            seen: number("seen")?,
            matched: number("matched")?,
            created: number("created")?,
            late: number("late")?,
            existing: number("existing")?,
            deleted: number("deleted")?,
            revalidated: number("revalidated")?,
            rejected: number("rejected")?,
            accepted: number("accepted")?,
            skipped: number("skipped")?,
            enqueued: number("enqueued")?,
            drift_rewinds: number("drift_rewinds")?,
            since: time("since")?,
            watermark_before: time("watermark_before")?,
            watermark: time("watermark")?,
            duration_ms: number("duration_ms")?,
            dry_run: get("dry_run")?.as_bool().ok_or("dry_run is not a boolean")?,
            run_id: word("run_id")?,
        };
        if !is_uuid(&summary.run_id) {
            return Err(format!("run_id is {}", summary.run_id));
        }
        if !["success", "permanent", "transient"].contains(&summary.outcome.as_str()) {
            return Err(format!("the outcome is {}", summary.outcome));
        }
        let parts = summary.created + summary.existing + summary.rejected + summary.accepted;
        if !failed && summary.matched != parts {
            return Err(format!("matched is {}, its parts are {parts}", summary.matched));
        }
        Ok(summary)
    }
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// Parses a time that has exactly the format of the summary.
fn exact_time(text: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    (time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string() == text).then_some(time)
}

/// Deserializes an object and keeps the order of its keys.
struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}
