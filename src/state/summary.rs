//! The report of a cycle: counters that every step adds to, and the summary line made of them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::config::Format;
use crate::error::{Exit, Reason};
use crate::types::time;

/// What a cycle did so far: the fields of the summary line, in its order, behind the outcome.
///
/// `matched = created + existing + rejected + accepted` once a cycle succeeded; a failed one shows
/// how far it came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Why it failed; absent on success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Pages received, whether they joined or not.
    pub pages: u64,
    /// Distinct demandes listed, of any definition.
    pub seen: u64,
    /// Entries that the cycle is about.
    pub matched: u64,
    /// Rows inserted.
    pub created: u64,
    /// Those of `created` that should have been known before.
    pub late: u64,
    /// Entries that were handled before.
    pub existing: u64,
    /// Listed entries that are handled and have no row.
    pub deleted: u64,
    /// Listed handled entries that were validated again since they were last seen.
    pub revalidated: u64,
    /// Entries that failed validation.
    pub rejected: u64,
    /// Entries that failed validation and were accepted so by an operator.
    pub accepted: u64,
    /// Entries from before `skip_before` that were never handled.
    pub skipped: u64,
    /// Jobs enqueued.
    pub enqueued: u64,
    /// Steps back of the listing.
    pub drift_rewinds: u64,
    /// `--since`, else `skip_before`.
    #[serde(serialize_with = "time::serialize")]
    pub since: Option<DateTime<Utc>>,
    /// The watermark that the cycle found.
    #[serde(serialize_with = "time::serialize")]
    pub watermark_before: Option<DateTime<Utc>>,
    /// The watermark that it left.
    #[serde(serialize_with = "time::serialize")]
    pub watermark: Option<DateTime<Utc>>,
    /// Wall time.
    pub duration_ms: u64,
    /// Whether nothing was to be written.
    pub dry_run: bool,
    /// The run's id: the same in log, tables and reports.
    pub run_id: Uuid,
}

impl Summary {
    /// Returns every field, by name, in the order of the summary line.
    pub fn fields(&self) -> Map<String, Value> {
        let outcome = self.reason.map_or(Exit::Success, Reason::exit).as_str();
        let mut fields = Map::from_iter([("outcome".to_owned(), json!(outcome))]);
        if let Value::Object(summary) = json!(self) {
            fields.extend(summary);
        }
        fields
    }

    /// Returns the counters, by name, in the order of the summary line.
    pub fn counters(&self) -> impl Iterator<Item = (String, u64)> + use<> {
        let fields = self.fields().into_iter().filter(|(name, _)| name != "duration_ms");
        fields.filter_map(|(name, value)| Some((name, value.as_u64()?)))
    }

    /// Writes the summary as one line, without its end.
    pub fn line(&self, format: Format) -> String {
        let fields = self.fields();
        if format == Format::Json {
            return Value::Object(fields).to_string();
        }
        let words = fields.iter().map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            Value::Null => format!("{name}=none"),
            other => format!("{name}={other}"),
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_written_as_text_and_as_json() {
        let summary = Summary {
            reason: Some(Reason::Unauthorized),
            pages: 3,
            since: "2026-05-18T12:00:00.5+02:00".parse().ok(),
            ..Summary::default()
        };
        assert_eq!(
            summary.line(Format::Text),
            "outcome=transient reason=unauthorized pages=3 seen=0 matched=0 created=0 late=0 \
             existing=0 deleted=0 revalidated=0 rejected=0 accepted=0 skipped=0 enqueued=0 \
             drift_rewinds=0 since=2026-05-18T10:00:00.500Z watermark_before=none watermark=none \
             duration_ms=0 dry_run=false run_id=00000000-0000-0000-0000-000000000000"
        );
        let json = summary.line(Format::Json);
        assert!(json.starts_with(r#"{"outcome":"transient","reason":"unauthorized","pages":3,"#));
        assert!(
            json.ends_with(
                r#""watermark":null,"duration_ms":0,"dry_run":false,"run_id":"00000000-0000-0000-0000-000000000000"}"#
            ),
            "{json}"
        );
        assert!(!Summary::default().line(Format::Text).contains("reason"));
    }
}
