//! The formats of values: pure functions from a string to a value.
//!
//! Each returns, for an invalid string, the end of a sentence that begins with the setting's name
//! and says what is expected. It never repeats the string: a secret pasted into the wrong place must
//! not show.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, NaiveTime, Utc};
use regex_lite::Regex;
use strum::VariantNames;

use crate::types::digits;
use crate::types::time::{has_four_digit_year, parse_date};

/// Ages end here: a hundred years are safe in every unit and type that they are turned into.
const MAX_AGE: Duration = Duration::from_secs(36_500 * 86_400);

/// Parses a whole number of decimal digits within a range.
pub(super) fn number<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let (min, max) = (range.start(), range.end());
    digits(text)
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("must be a whole number from {min} to {max}"))
}

/// Parses an `integer` of PostgreSQL.
pub(super) fn integer(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| format!("must be an integer from {} to {}", i32::MIN, i32::MAX))
}

/// Parses an age: a whole number with `s`, `m`, `h` or `d`.
fn duration(text: &str) -> Option<Duration> {
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let (number, unit_seconds) =
        units.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let seconds = digits::<u64>(number)?.checked_mul(unit_seconds)?;
    Some(Duration::from_secs(seconds)).filter(|age| *age <= MAX_AGE)
}

/// Parses an age of at least a second.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    duration(text).filter(|age| !age.is_zero()).ok_or_else(|| {
        "must be a whole number with s, m, h or d, at least 1s, at most 36500d".to_owned()
    })
}

/// Parses a time that is not to come: RFC 3339 with an offset, a date (midnight UTC) or an age.
///
/// It is truncated to the microsecond, which is what PostgreSQL keeps, and a leap second becomes the
/// next one.
pub(super) fn instant(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    const EXPECTED: &str = "expected RFC 3339 with an offset (2026-05-18T10:00:00Z), \
                         a date (2026-05-18) or an age (36h, 7d)";
    let time = if let Some(age) = duration(text) {
        Some(now - age)
    } else if let Ok(date) = parse_date(text) {
        Some(date.and_time(NaiveTime::MIN).and_utc())
    } else {
        DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
    };
    let time = time.and_then(|time| DateTime::from_timestamp_micros(time.timestamp_micros()));
    match time.filter(has_four_digit_year) {
        Some(time) if time <= now => Ok(time),
        Some(_) => Err("is in the future".to_owned()),
        None if text.parse::<NaiveDateTime>().is_ok() => {
            Err(format!("has no offset, such as Z or +02:00 ({EXPECTED})"))
        }
        None => Err(format!("is not a valid time ({EXPECTED})")),
    }
}

/// Parses one of a few words.
pub(super) fn word<T: FromStr + VariantNames>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("must be {}", T::VARIANTS.join(" or ")))
}

/// Takes a string of at most `max` characters that is not blank and has no control character.
pub(super) fn plain(text: &str, max: usize) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is blank".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("has a control character, such as a line end".to_owned());
    }
    if text.chars().count() > max {
        return Err(format!("is longer than {max} characters"));
    }
    Ok(text.to_owned())
}

/// Takes a string of at most `max` bytes that matches a pattern as a whole; `expected` describes it.
fn matching(text: &str, max: usize, pattern: &str, expected: &str) -> Result<String, String> {
    let regex = Regex::new(&format!("^(?:{pattern})$"));
    match text.len() <= max && regex.is_ok_and(|regex| regex.is_match(text)) {
        true => Ok(text.to_owned()),
        false => Err(format!("must be {expected}")),
    }
}

/// Takes the name of a Ruby class, with its modules.
pub(super) fn ruby_class(text: &str) -> Result<String, String> {
    let expected = "the name of a Ruby class, such as Jobs::Process";
    matching(text, 200, r"[A-Z]\w*(::[A-Z]\w*)*", expected)
}

/// Takes a GlobalID application (`URI::GID.validate_app`).
pub(super) fn global_id_app(text: &str) -> Result<String, String> {
    let expected = "a GlobalID application: letters, digits and hyphens";
    matching(text, 200, "[A-Za-z0-9-]+", expected)
}

/// Takes the slug of a Sentry monitor.
pub(super) fn slug(text: &str) -> Result<String, String> {
    let expected = "1 to 50 lower-case letters, digits, hyphens and underscores";
    matching(text, 50, "[a-z0-9_-]+", expected)
}

/// Takes the reference of a container image: only its characters are validated, and that it is no
/// URL.
pub(super) fn image(text: &str) -> Result<String, String> {
    let expected = "an image, such as registry.example/datapass-pull:1.0";
    matching(text, 1_000, r"[A-Za-z0-9][\w.:@-]*(/[\w.:@-]+)*", expected)
}

/// Takes the name of Kubernetes objects: a DNS label.
///
/// A CronJob may have 52 characters, so that the names of its Jobs have the 63 of a label.
pub(super) fn kubernetes_name(text: &str) -> Result<String, String> {
    let expected = "1 to 52 lower-case letters, digits and hyphens, no hyphen at an end";
    matching(text, 52, "[a-z0-9]([a-z0-9-]*[a-z0-9])?", expected)
}

/// Takes the path of a file that may not exist yet.
pub(super) fn writable_file(path: PathBuf) -> Result<PathBuf, String> {
    if path.file_name().is_none() || path.is_dir() {
        return Err("must name a file".to_owned());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 5, 18, 10, 0, 0).unwrap()
    }

    #[test]
    fn numbers_are_digits_within_a_range() {
        for (text, expected) in [("1", 1), ("1000", 1_000), ("007", 7)] {
            assert_eq!(number(text, 1..=1_000), Ok(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "1001",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "٣",
            "4294967297",
            "99999999999999999999999",
        ] {
            assert_eq!(
                number(text, 1..=1_000),
                Err("must be a whole number from 1 to 1000".to_owned()),
                "{text}"
            );
        }
        assert_eq!(number("0", 0..=100), Ok(0));
    }

    #[test]
    fn ages_are_whole_numbers_with_a_unit() {
        for (text, seconds) in [
            ("1s", 1),
            ("60s", 60),
            ("1m", 60),
            ("90m", 5_400),
            ("36h", 129_600),
            ("7d", 604_800),
            ("007d", 604_800),
            ("36500d", 3_153_600_000),
        ] {
            assert_eq!(age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "0s",
            "0d",
            "60",
            "1.5h",
            "-1h",
            "+1h",
            " 1h",
            "1h ",
            "1H",
            "1w",
            "1 h",
            "1h30m",
            "36501d",
            "18446744073709551615d",
            "18446744073709551616s",
            "é",
            "1é",
            "1日",
        ] {
            let problem = age(text).unwrap_err();
            assert!(problem.contains("at least 1s"), "{text}");
        }
    }

    #[test]
    fn times_are_rfc_3339_dates_or_ages() {
        for (text, expected) in [
            ("2026-05-18T10:00:00Z", "2026-05-18T10:00:00+00:00"),
            ("2026-05-18T12:00:00+02:00", "2026-05-18T10:00:00+00:00"),
            ("2026-05-18t09:59:59.1234567z", "2026-05-18T09:59:59.123456+00:00"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
            ("2026-05-18", "2026-05-18T00:00:00+00:00"),
            ("0001-01-01", "0001-01-01T00:00:00+00:00"),
            ("0s", "2026-05-18T10:00:00+00:00"),
            ("36h", "2026-05-16T22:00:00+00:00"),
            ("7d", "2026-05-11T10:00:00+00:00"),
            ("36500d", "1926-06-12T10:00:00+00:00"),
        ] {
            let time = instant(text, now()).map(|time| time.to_rfc3339());
            assert_eq!(time.as_deref(), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("2026-05-18T10:00:00.000001Z", "is in the future"),
            ("2026-05-18T10:00:01Z", "is in the future"),
            ("2026-05-18T11:00:00+00:30", "is in the future"),
            ("2026-05-19", "is in the future"),
            ("9999-12-31T23:59:59Z", "is in the future"),
            ("2026-05-18T10:00:00", "has no offset"),
            ("2026-05-18T10:00:00.5", "has no offset"),
            ("", "is not a valid time"),
            ("2026-05-18T10:00Z", "is not a valid time"),
            ("2026-02-30", "is not a valid time"),
            ("2026-5-18", "is not a valid time"),
            ("+026-05-18", "is not a valid time"),
            ("-026-05-18", "is not a valid time"),
            ("18/05/2026", "is not a valid time"),
            ("yesterday", "is not a valid time"),
            ("1779098400", "is not a valid time"),
            ("-7d", "is not a valid time"),
            ("0000-12-31T00:00:00Z", "is not a valid time"),
            ("0001-01-01T00:00:00+14:00", "is not a valid time"),
            ("7", "is not a valid time"),
            ("18446744073709551615d", "is not a valid time"),
            ("é026-05-1", "is not a valid time"),
        ] {
            let problem = instant(text, now()).unwrap_err();
            assert!(problem.starts_with(expected), "{text}: {problem}");
        }
    }

    #[test]
    fn names_contain_only_allowed_characters() {
        for (validate, good, bad) in [
            (
                ruby_class as fn(&str) -> Result<String, String>,
                &["Job", "A::B2", "My_Job"][..],
                &["job", "A::", "::A", "A:B", "A b", "A\n", "É", "A;drop", ""][..],
            ),
            (global_id_app, &["relais", "my-app2"], &["my_app", "a/b", "a b", "é", "a\n"]),
            (
                image,
                &["a", "r.example:5000/a/b:1.0@sha256:00"],
                &["", "a b", "a\n", "a\"", "a'", "a#b", "é", "-x", "a/", "https://x/y"],
            ),
            (
                slug,
                &["a", "0-a_b", &"x".repeat(50)],
                &["", "A", "a.b", "a b", "é", &"x".repeat(51)],
            ),
            (
                kubernetes_name,
                &["a", "0-a", &"x".repeat(52)],
                &["", "-a", "a-", "A", "a.b", "a_b", "é", &"x".repeat(53)],
            ),
            (
                |text| plain(text, 5),
                &["a", " é ", "12345"],
                &["", " ", "\u{a0}", "123456", "a\0", "a\n", "a\u{7f}", "a\u{9b}"],
            ),
        ] {
            for text in good {
                assert_eq!(validate(text).as_deref(), Ok(*text));
            }
            for text in bad {
                assert!(validate(text).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn a_path_to_write_has_a_file_name() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        assert_eq!(writable_file(missing.clone()), Ok(missing));
        for path in [directory.path().into(), PathBuf::from("/"), PathBuf::from("..")] {
            assert_eq!(writable_file(path), Err("must name a file".to_owned()));
        }
    }
}
