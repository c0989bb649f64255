//! The forms of values: pure functions from a text to a value.
//!
//! Each returns, for a bad text, the end of a sentence that begins with the setting's name and
//! says what is expected. It never repeats the text: a secret pasted into the wrong place must
//! not show.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use url::Url;

use crate::db::address;
use crate::http::is_loopback;
use crate::tls::{self, TlsError};

/// Ages end here: a hundred years are safe in every unit and type that they are turned into.
const MAX_AGE: Duration = Duration::from_secs(36_500 * 86_400);

/// Parses a whole number of decimal digits within a range.
pub(super) fn number(text: &str, min: u32, max: u32) -> Result<u32, String> {
    digits(text)
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| format!("must be a whole number from {min} to {max}"))
}

/// Parses decimal digits, without the sign that `parse` would allow.
fn digits(text: &str) -> Option<u64> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok()).flatten()
}

/// Parses an age: a whole number with `s`, `m`, `h` or `d`.
fn duration(text: &str) -> Option<Duration> {
    let unit_seconds = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let seconds = digits(&text[..text.len() - 1])?.checked_mul(unit_seconds)?;
    Some(Duration::from_secs(seconds)).filter(|age| *age <= MAX_AGE)
}

/// Parses an age of at least `min`, which is told as `min_text`.
pub(super) fn age(text: &str, min: Duration, min_text: &str) -> Result<Duration, String> {
    duration(text).filter(|age| *age >= min).ok_or_else(|| {
        format!("must be a whole number with s, m, h or d, at least {min_text}, at most 36500d")
    })
}

/// Parses a time that is not to come: RFC 3339 with an offset, a date (midnight UTC) or an age.
///
/// It is cut to the microsecond, which is what PostgreSQL keeps, and a leap second becomes the
/// next one.
pub(super) fn instant(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    const FORMS: &str = "expected RFC 3339 with an offset (2026-05-18T10:00:00Z), \
                         a date (2026-05-18) or an age (36h, 7d)";
    let time = if let Some(age) = duration(text) {
        TimeDelta::from_std(age)
            .ok()
            .and_then(|age| now.checked_sub_signed(age))
    } else if text.len() == 10 {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
        date.filter(|_| text.as_bytes()[0].is_ascii_digit())
            .map(|date| date.and_time(NaiveTime::MIN).and_utc())
    } else {
        DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| time.to_utc())
    };
    let time = time.and_then(|time| Utc.timestamp_micros(time.timestamp_micros()).single());
    match time {
        Some(time) if time <= now => Ok(time),
        Some(_) => Err("is in the future".to_owned()),
        None if text.parse::<NaiveDateTime>().is_ok() => {
            Err(format!("has no offset, such as Z or +02:00 ({FORMS})"))
        }
        None => Err(format!("is no time ({FORMS})")),
    }
}

/// Parses one of a few words.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(format!("must be {}", words.join(" or ")))
}

/// Takes a text of at most `max` characters that is not blank and has no control character.
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

/// Parses the URL of a server that gets a secret: https, or http on this very host or when allowed.
fn web(text: &str, allow_http: bool) -> Result<Url, String> {
    const EXPECTED: &str = "must be an https:// URL";
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("has a space or a control character ({EXPECTED})"));
    }
    let url = Url::parse(text).map_err(|_| EXPECTED.to_owned())?;
    // The parser forgives `https:host` and backslashes; we do not guess.
    let slashes = text
        .get(url.scheme().len()..)
        .is_some_and(|rest| rest.starts_with("://"));
    if !slashes || !matches!(url.scheme(), "http" | "https") {
        return Err(EXPECTED.to_owned());
    }
    if url.scheme() == "http" && !allow_http && !is_loopback(&url) {
        return Err(HTTPS_NEEDED.to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or password in it, which is not allowed".to_owned());
    }
    if url.fragment().is_some() {
        return Err("has a fragment (#…), which is not allowed".to_owned());
    }
    Ok(url)
}

const HTTPS_NEEDED: &str =
    "must be https:// (http is for loopback hosts, or for any with DATAPASS_ALLOW_HTTP=1)";

/// Parses the token URL, which may have a query (RFC 6749 section 3.2) but no fragment.
pub(super) fn auth_url(text: &str, allow_http: bool) -> Result<Url, String> {
    web(text, allow_http)
}

/// Parses the base of the API and takes the slashes off its end.
pub(super) fn base_url(text: &str, allow_http: bool) -> Result<Url, String> {
    let mut url = web(text, allow_http)?;
    if url.query().is_some() {
        return Err("has a query (?…), which is not allowed".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Takes a Sentry DSN that parses and keeps to https like any other URL.
pub(super) fn sentry_dsn(text: &str, allow_http: bool) -> Result<String, String> {
    const EXPECTED: &str = "must be a Sentry DSN (https://KEY@HOST/PROJECT)";
    text.parse::<sentry::types::Dsn>()
        .map_err(|_| EXPECTED.to_owned())?;
    let url = Url::parse(text).map_err(|_| EXPECTED.to_owned())?;
    if url.scheme() == "http" && !allow_http && !is_loopback(&url) {
        return Err(HTTPS_NEEDED.to_owned());
    }
    Ok(text.to_owned())
}

/// Takes the name of a Ruby class, with its modules.
pub(super) fn ruby_class(text: &str) -> Result<String, String> {
    let is_constant = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_uppercase())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if text.len() <= 200 && text.split("::").all(is_constant) {
        Ok(text.to_owned())
    } else {
        Err("must be the name of a Ruby class, such as Jobs::Process".to_owned())
    }
}

/// Takes a GlobalID application: letters, digits and hyphens (`URI::GID.validate_app`).
pub(super) fn global_id_app(text: &str) -> Result<String, String> {
    if text.len() <= 200
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        Ok(text.to_owned())
    } else {
        Err("must be a GlobalID application: letters, digits and hyphens".to_owned())
    }
}

/// Takes the reference of a container image, without judging more than its characters and that it
/// is no URL.
pub(super) fn image(text: &str) -> Result<String, String> {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    let is_reference =
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && !text.contains("//");
    if is_reference && text.len() <= 1_000 && text.bytes().all(is_known) {
        Ok(text.to_owned())
    } else {
        Err("must be an image, such as registry.example/datapass-pull:1.0".to_owned())
    }
}

/// Takes the path of a PEM file with root certificates, each of which can be used.
pub(super) fn root_certificates(path: PathBuf) -> Result<PathBuf, String> {
    match tls::file_roots(&path) {
        Ok(_) => Ok(path),
        Err(TlsError::Unreadable { kind, .. }) => {
            Err(format!("names a file that cannot be read ({kind})"))
        }
        Err(_) => Err("names a file without a usable PEM certificate".to_owned()),
    }
}

/// Takes the path of a file that may not exist yet.
pub(super) fn writable_file(path: PathBuf) -> Result<PathBuf, String> {
    if path.file_name().is_none() || path.is_dir() {
        return Err("must name a file".to_owned());
    }
    Ok(path)
}

/// Judges the text of `DATABASE_URL` without repeating any of it.
pub(super) fn database_url(text: &str) -> Result<String, String> {
    let problem = match address::parse(text) {
        // As in libpq the user is then that of the process, which in a container has no name.
        Ok(address) if address.config.get_user().is_none() && whoami::username().is_err() => {
            return Err("names no user, and the one that runs this has no name".to_owned());
        }
        Ok(address) => {
            return match address.tls.roots_file() {
                None => Ok(text.to_owned()),
                Some(path) => root_certificates(path.to_owned())
                    .map(|_| text.to_owned())
                    .map_err(|problem| format!("holds an sslrootcert that {problem}")),
            };
        }
        Err(problem) => problem.to_string(),
    };
    Err(format!(
        "is refused: {problem} (expected: postgres://USER:PASSWORD@HOST/DATABASE, with odd \
         characters percent-encoded)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 5, 18, 10, 0, 0).unwrap()
    }

    #[test]
    fn numbers_are_digits_within_a_range() {
        for (text, expected) in [("1", 1), ("1000", 1_000), ("007", 7)] {
            assert_eq!(number(text, 1, 1_000), Ok(expected), "{text}");
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
                number(text, 1, 1_000),
                Err("must be a whole number from 1 to 1000".to_owned()),
                "{text}"
            );
        }
        assert_eq!(number("0", 0, 100), Ok(0));
    }

    #[test]
    fn ages_are_whole_numbers_with_a_unit() {
        let minute = Duration::from_secs(60);
        for (text, seconds) in [
            ("60s", 60),
            ("1m", 60),
            ("90m", 5_400),
            ("36h", 129_600),
            ("7d", 604_800),
            ("007d", 604_800),
            ("36500d", 3_153_600_000),
        ] {
            assert_eq!(
                age(text, minute, "1m"),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "59s",
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
            let problem = age(text, minute, "1m").unwrap_err();
            assert!(problem.contains("at least 1m"), "{text}");
        }
    }

    #[test]
    fn times_are_rfc_3339_dates_or_ages() {
        for (text, expected) in [
            ("2026-05-18T10:00:00Z", "2026-05-18T10:00:00+00:00"),
            ("2026-05-18T12:00:00+02:00", "2026-05-18T10:00:00+00:00"),
            (
                "2026-05-18t09:59:59.1234567z",
                "2026-05-18T09:59:59.123456+00:00",
            ),
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
            ("", "is no time"),
            ("2026-05-18T10:00Z", "is no time"),
            ("2026-02-30", "is no time"),
            ("2026-5-18", "is no time"),
            ("+026-05-18", "is no time"),
            ("-026-05-18", "is no time"),
            ("18/05/2026", "is no time"),
            ("yesterday", "is no time"),
            ("1779098400", "is no time"),
            ("-7d", "is no time"),
            ("7", "is no time"),
            ("18446744073709551615d", "is no time"),
            ("é026-05-1", "is no time"),
        ] {
            let problem = instant(text, now()).unwrap_err();
            assert!(problem.starts_with(expected), "{text}: {problem}");
        }
    }

    #[test]
    fn urls_are_https_or_local() {
        for (text, allow_http, expected) in [
            ("https://h/api/v1", false, "https://h/api/v1"),
            ("https://h/api/v1/", false, "https://h/api/v1"),
            ("https://h/api/v1//", false, "https://h/api/v1"),
            ("https://h", false, "https://h/"),
            ("https://h:8443/", false, "https://h:8443/"),
            ("HTTPS://H/", false, "https://h/"),
            (
                "http://localhost:3000/v1",
                false,
                "http://localhost:3000/v1",
            ),
            ("http://127.0.0.1/v1", false, "http://127.0.0.1/v1"),
            ("http://127.9.8.7/v1", false, "http://127.9.8.7/v1"),
            ("http://[::1]:80/v1", false, "http://[::1]/v1"),
            ("http://h/v1", true, "http://h/v1"),
        ] {
            let url = base_url(text, allow_http).map(String::from);
            assert_eq!(url.as_deref(), Ok(expected), "{text}");
            assert!(auth_url(text, allow_http).is_ok(), "{text}");
        }
        for (text, allow_http, expected) in [
            ("http://h/v1", false, "must be https://"),
            ("http://localhost.example/v1", false, "must be https://"),
            ("http://126.0.0.1/v1", false, "must be https://"),
            ("http://[::2]/v1", false, "must be https://"),
            ("http://127.0.0.1.example/v1", false, "must be https://"),
            ("ftp://h/v1", true, "must be an https:// URL"),
            ("hunter2", true, "must be an https:// URL"),
            ("h/v1", true, "must be an https:// URL"),
            ("https:h/v1", true, "must be an https:// URL"),
            ("https:\\\\h", true, "must be an https:// URL"),
            ("https://", true, "must be an https:// URL"),
            ("file:///etc/passwd", true, "must be an https:// URL"),
            ("https://h/v1 ", true, "has a space"),
            ("https://h/v1\n", true, "has a space"),
            ("https://hunter2@h/v1", true, "has a user name or password"),
            ("https://:hunter2@h/v1", true, "has a user name or password"),
            ("https://h/v1#hunter2", true, "has a fragment"),
            ("https://h/v1#", true, "has a fragment"),
            ("https://h/v1?hunter2", true, "has a query"),
            ("https://h/v1?", true, "has a query"),
        ] {
            let problem = base_url(text, allow_http).unwrap_err();
            assert!(problem.starts_with(expected), "{text}: {problem}");
            assert!(!problem.contains("hunter2"), "{text}: {problem}");
        }
        assert!(auth_url("https://h/token?tenant=1", false).is_ok());
    }

    #[test]
    fn a_dsn_parses_and_is_https_or_local() {
        for (text, allow_http, is_good) in [
            ("https://key@o1.ingest.example/42", false, true),
            ("http://key@127.0.0.1:9000/42", false, true),
            ("http://key@localhost/42", false, true),
            ("http://key@[::1]:9000/42", false, true),
            ("http://key@sentry.example/42", false, false),
            ("http://key@sentry.example/42", true, true),
            ("https://sentry.example/42", true, false),
            ("https://hunter2@sentry.example", true, false),
            ("hunter2", true, false),
        ] {
            let dsn = sentry_dsn(text, allow_http);
            assert_eq!(dsn.is_ok(), is_good, "{text}");
            assert!(
                !dsn.err().is_some_and(|problem| problem.contains("hunter2")),
                "{text}"
            );
        }
    }

    #[test]
    fn names_keep_to_their_characters() {
        for (judge, good, bad) in [
            (
                ruby_class as fn(&str) -> Result<String, String>,
                &["Job", "A::B2", "My_Job"][..],
                &["job", "A::", "::A", "A:B", "A b", "A\n", "É", "A;drop", ""][..],
            ),
            (
                global_id_app,
                &["relais", "my-app2"],
                &["my_app", "a/b", "a b", "é", "a\n"],
            ),
            (
                image,
                &["a", "r.example:5000/a/b:1.0@sha256:00"],
                &[
                    "",
                    "a b",
                    "a\n",
                    "a\"",
                    "a'",
                    "a#b",
                    "é",
                    "-x",
                    "https://x/y",
                ],
            ),
            (
                |text| plain(text, 5),
                &["a", " é ", "12345"],
                &[
                    "", " ", "\u{a0}", "123456", "a\0", "a\n", "a\u{7f}", "a\u{9b}",
                ],
            ),
            (
                database_url,
                &[
                    "postgres://u:p@h/d",
                    "host=/run user=u",
                    "postgresql://[::1]:5432/d",
                ],
                &[
                    "hunter2",
                    "postgres://h:hunter2/d",
                    "host=h port=hunter2",
                    "host=h password=a hunter=2",
                    "postgres://h/d?hunter=2",
                    "postgres://h/d?sslmode=hunter2",
                ],
            ),
        ] {
            for text in good {
                assert_eq!(judge(text).as_deref(), Ok(*text));
            }
            for text in bad {
                let problem = judge(text).unwrap_err();
                assert!(!problem.contains("hunter"), "{text}: {problem}");
            }
        }
    }

    #[test]
    fn files_are_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let missing = directory.path().join("missing");
        std::fs::write(&file, tls::tests::root_pem()).unwrap();
        assert_eq!(root_certificates(file.clone()), Ok(file.clone()));
        std::fs::write(&file, "x").unwrap();
        for (path, expected) in [
            (&file, "names a file without a usable PEM certificate"),
            (
                &missing,
                "names a file that cannot be read (entity not found)",
            ),
            (
                &directory.path().into(),
                "names a file that cannot be read (is a directory)",
            ),
            (
                &"/dev/zero".into(),
                "names a file without a usable PEM certificate",
            ),
        ] {
            assert_eq!(root_certificates(path.clone()), Err(expected.to_owned()));
            let query = format!("sslmode=verify-full&sslrootcert={}", path.display());
            let problem = database_url(&format!("postgres://h/d?{query}"));
            assert_eq!(
                problem,
                Err(format!("holds an sslrootcert that {expected}"))
            );
        }
        assert_eq!(writable_file(missing.clone()), Ok(missing));
        for path in [
            directory.path().into(),
            PathBuf::from("/"),
            PathBuf::from(".."),
        ] {
            assert_eq!(writable_file(path), Err("must name a file".to_owned()));
        }
    }
}
