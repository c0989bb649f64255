//! Retries: a pure schedule, what `Retry-After` asks for, and the wait itself.
//!
//! Five retries take 31 to 62 seconds, so that they bridge a restart of the server. Half of each
//! limit is drawn, which spreads the clients of a common outage.

use std::time::Duration;

use chrono::{DateTime, Utc};
use log::warn;

use crate::error::{Detail, Exit, Failure, Reason, Result};
use crate::process::deadline::Deadline;

/// The limit of the first wait; it doubles with each retry.
const FIRST_LIMIT: Duration = Duration::from_secs(2);
/// How often the limit doubles.
const DOUBLINGS: u32 = 4;

/// Returns whether the same attempt may succeed a little later. Credentials that were refused are
/// refused again; the other causes end a run as a whole.
fn is_retryable(reason: Reason) -> bool {
    let is_final = matches!(
        reason,
        Reason::Unauthorized | Reason::Deadline | Reason::Interrupted | Reason::Resources
    );
    reason.exit() == Exit::Transient && !is_final
}

/// Runs `attempt` until it succeeds, fails for good, or no retry or time is left. `page` is that of
/// the listing which it asks for.
pub fn run<T>(
    deadline: &Deadline,
    max_retries: u32,
    page: Option<u64>,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut retries = 0;
    loop {
        match attempt() {
            Err(failure) if retries < max_retries && is_retryable(failure.reason) => {
                wait(deadline, retries, page, failure)?;
                retries += 1;
            }
            ended => return ended,
        }
    }
}

/// Waits before the next attempt, after so many retries, and logs why.
///
/// # Errors
///
/// The `failure` itself when the deadline comes before the end of the wait; that of the deadline
/// when it has passed.
pub fn wait(
    deadline: &Deadline,
    retries: u32,
    page: Option<u64>,
    mut failure: Failure,
) -> Result<()> {
    let retry_after = match failure.detail {
        Detail::Response(_, retry_after) => retry_after,
        _ => Duration::ZERO,
    };
    let wait = delay(retries, retry_after, fastrand::f64());
    if wait >= deadline.check(failure.stage)? {
        let note = "; the deadline leaves no time for a retry";
        failure.message.push_str(note);
        return Err(failure);
    }
    warn!(
        stage = failure.stage.as_str(), reason = failure.reason.as_str(), page = page,
        attempt = retries.saturating_add(1), wait_ms = wait.as_millis() as u64;
        "{}; retrying in {:.1} s", failure.error_chain(), wait.as_secs_f64()
    );
    deadline.sleep(wait, failure.stage)
}

/// Returns how long to wait before the next attempt after so many retries.
///
/// `draw` is a uniform number in `[0, 1)`. What the server asked for is waited at least, and the
/// drawn part comes on top, so that its clients do not all come back at that instant.
fn delay(retries: u32, retry_after: Duration, draw: f64) -> Duration {
    let half = FIRST_LIMIT.saturating_mul(1 << retries.min(DOUBLINGS)) / 2;
    retry_after.max(half).saturating_add(half.mul_f64(draw))
}

/// Parses a `Retry-After` header (RFC 9110 section 10.2.3): delay seconds or an HTTP date.
///
/// The date is compared with the response's own `Date` when it has one, since the clocks may
/// differ. A past date is no wait; what cannot be parsed is ignored.
pub fn retry_after(value: &str, date: Option<DateTime<Utc>>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit still ask for a long wait.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = DateTime::<Utc>::from(httpdate::parse_http_date(value).ok()?);
    let wait = until.signed_duration_since(date.unwrap_or_else(Utc::now));
    Some(wait.to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Stage;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn five_retries_take_31_to_62_seconds() {
        let waits = |draw| -> Vec<u64> {
            let wait = |retries| delay(retries, Duration::ZERO, draw).as_millis() as u64;
            (0..7).map(wait).collect()
        };
        let shortest = [1000, 2000, 4000, 8000, 16_000, 16_000, 16_000];
        assert_eq!(waits(0.0), shortest);
        assert_eq!(waits(1.0), shortest.map(|wait| 2 * wait));
        assert_eq!(waits(0.25), shortest.map(|wait| wait * 5 / 4));
        assert_eq!(delay(u32::MAX, Duration::ZERO, 0.0).as_secs(), 16);
    }

    #[test]
    fn a_wait_is_at_least_retry_after_and_does_not_overflow() {
        assert_eq!(delay(0, seconds(7), 0.0), seconds(7));
        assert_eq!(delay(0, seconds(7), 1.0), seconds(8));
        assert_eq!(delay(4, seconds(7), 0.5), seconds(24));
        assert_eq!(delay(1, Duration::MAX, 1.0), Duration::MAX);
    }

    #[test]
    fn a_wait_beyond_the_deadline_returns_the_failure_at_once() {
        let failure = || {
            Failure::new(Stage::List, Reason::RateLimited, "GET /demandes failed")
                .with_detail(Detail::Response(429, Duration::MAX))
        };
        let failed = wait(&Deadline::after(seconds(60)), 0, None, failure()).unwrap_err();
        assert_eq!(failed.reason, Reason::RateLimited);
        let expected = "GET /demandes failed; the deadline leaves no time for a retry";
        assert_eq!(failed.message, expected);
        let over = wait(&Deadline::after(Duration::ZERO), 0, None, failure()).unwrap_err();
        assert_eq!(over.reason, Reason::Deadline);
    }

    #[test]
    fn retry_after_is_parsed_in_both_formats() {
        let date = "2026-05-18T10:00:00Z".parse().ok();
        let seconds = |value| retry_after(value, date).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("Mon, 18 May 2026 10:00:30 GMT"), Some(30));
        assert_eq!(seconds("Monday, 18-May-26 10:00:30 GMT"), Some(30));
        assert_eq!(seconds("Mon May 18 10:00:30 2026"), Some(30));
        assert_eq!(seconds("Mon, 18 May 2026 09:00:00 GMT"), Some(0));
        assert_eq!(seconds("18446744073709551615"), Some(u64::MAX));
        assert_eq!(seconds("99999999999999999999999"), Some(u64::MAX));
        assert!(retry_after("Fri, 31 Dec 9999 23:59:59 GMT", None).is_some());
        for unknown in ["", "soon", "-5", "1.5", "10 s"] {
            assert_eq!(seconds(unknown), None, "{unknown:?}");
        }
    }
}
