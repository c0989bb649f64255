//! The forms of values: pure functions from a text to a value.
//!
//! Each returns, for a bad text, the end of a sentence that begins with the setting's name and
//! says what is expected. It never repeats the text: a secret pasted into the wrong place must
//! not show.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use url::{Host, Url};

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

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

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
    let dsn: sentry::types::Dsn = text.parse().map_err(|_| EXPECTED.to_owned())?;
    let host = dsn.host();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    let is_loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    if dsn.scheme() == sentry::types::Scheme::Http && !allow_http && !is_loopback {
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

/// Takes the reference of a container image, without judging more than its characters.
pub(super) fn image(text: &str) -> Result<String, String> {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    if text.len() <= 1_000 && text.bytes().all(is_known) {
        Ok(text.to_owned())
    } else {
        Err("must be an image, such as registry.example/datapass-pull:1.0".to_owned())
    }
}

/// Takes the path of a file that can be opened now.
pub(super) fn readable_file(path: PathBuf) -> Result<PathBuf, String> {
    match std::fs::File::open(&path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_dir() => Err("names a directory, not a file".to_owned()),
        Ok(_) => Ok(path),
        Err(error) => Err(format!(
            "names a file that cannot be read ({})",
            error.kind()
        )),
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
    match database_url_problem(text) {
        None => Ok(text.to_owned()),
        Some(problem) => Err(problem),
    }
}

/// Returns what is wrong with a `DATABASE_URL`. The one place that knows who judges it.
fn database_url_problem(text: &str) -> Option<String> {
    let problem = "must be PostgreSQL's address (postgres://USER:PASSWORD@HOST/DATABASE)";
    text.parse::<postgres::Config>()
        .is_err()
        .then(|| problem.to_owned())
}
