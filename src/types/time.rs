//! Times and dates: how they are read and printed.

use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use super::Invalid;

/// The years of the calendar that have four digits.
const YEARS: RangeInclusive<i32> = 1..=9999;

/// Reads an instant: RFC 3339, or ISO 8601 with an offset such as `+0200` or `+02`.
///
/// An offset is required. The instant is cut to microseconds and a leap second becomes the next
/// one, as PostgreSQL keeps it, so that what was stored compares equal to what was read. Its year
/// has four digits, in UTC too: others are not written alike everywhere, nor stored everywhere.
pub fn parse_instant(text: &str) -> Result<DateTime<Utc>, Invalid> {
    DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z"))
        .ok()
        .and_then(|time| DateTime::from_timestamp_micros(time.timestamp_micros()))
        .filter(has_four_digit_year)
        .ok_or(Invalid("not a time with offset"))
}

/// Returns whether the year of an instant has four digits, in UTC: PostgreSQL cannot read what RFC 3339
/// makes of any other.
pub fn has_four_digit_year(time: &DateTime<Utc>) -> bool {
    YEARS.contains(&time.year())
}

/// Reads a date, exactly `YYYY-MM-DD`.
pub fn parse_date(text: &str) -> Result<NaiveDate, Invalid> {
    match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        // The parser accepts signs, blanks and missing zeros.
        Ok(date) if YEARS.contains(&date.year()) && date.to_string() == text => Ok(date),
        _ => Err(Invalid("not a date")),
    }
}

/// Writes an instant as RFC 3339 in UTC, with milliseconds and `Z`.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Serializes an optional instant as [`rfc3339`] writes it.
pub fn serialize<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(rfc3339).serialize(serializer)
}

/// Prints an optional instant, `none` when there is none.
pub fn shown(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "none".to_owned(), rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let instant = |text| parse_instant(text).map(|time| time.to_rfc3339());
        let paris = Ok("2025-06-19T17:36:36.298+00:00".to_owned());
        assert_eq!(instant("2025-06-19T19:36:36.298+02:00"), paris);
        assert_eq!(instant("2025-06-19T19:36:36.298+0200"), paris);
        assert_eq!(instant("2025-06-19T17:36:36.298Z"), paris);
        assert_eq!(
            instant("2025-06-19T17:36:36.298123999Z"),
            Ok("2025-06-19T17:36:36.298123+00:00".to_owned())
        );
        assert_eq!(
            instant("2026-06-30T23:59:60.5Z"),
            Ok("2026-07-01T00:00:00.500+00:00".to_owned())
        );
        for text in ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"] {
            assert!(parse_instant(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "2025-06-19",
            "2025-06-19T19:36:36.298",
            "2025-02-30T00:00:00Z",
            "1750354596",
            "x2025-06-19T17:36:36Z",
            "-4713-01-01T00:00:00Z",
            "+10000-01-01T00:00:00Z",
            "0000-12-31T23:59:59Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert!(parse_instant(text).is_err(), "{text}");
        }
        assert!(parse_date("2024-02-29").is_ok());
        for text in [
            "",
            "2025-02-29",
            "2026-9-01",
            "+026-09-01",
            "01/09/2026",
            "2026-09-01T00:00:00Z",
            "2026-09- 1",
            "0000-01-01",
        ] {
            assert!(parse_date(text).is_err(), "{text}");
        }
    }
}
