//! When to try a request again: a pure schedule with full jitter.
//!
//! Full jitter (a uniform draw between zero and an exponentially growing ceiling) spreads many
//! clients best after a common outage; see Marc Brooker, "Exponential Backoff and Jitter".

use std::time::Duration;

use chrono::{DateTime, Utc};

/// The ceiling of the first wait, in milliseconds.
const BASE_MS: u64 = 500;
/// The ceiling of any wait, in milliseconds.
const CAP_MS: u64 = 30_000;

/// Returns how long to wait before retry number `retry` (from 0).
///
/// `draw` is a uniform number in `[0, 1)`. `floor` is what the server asked for in `Retry-After`:
/// the jitter comes on top, so that the clients it asked do not all come back at that instant.
pub fn delay(retry: u32, floor: Duration, draw: f64) -> Duration {
    let ceiling_ms = BASE_MS.saturating_mul(1 << retry.min(16)).min(CAP_MS);
    floor + Duration::from_millis(ceiling_ms).mul_f64(draw.clamp(0.0, 1.0))
}

/// Reads a `Retry-After` header (RFC 9110 section 10.2.3): delay seconds or an HTTP date.
///
/// The date is taken against the answer's own `Date` when it has one, since the clocks may differ.
/// A past date is no wait; what cannot be read is no wish.
pub fn retry_after(value: &str, date: Option<DateTime<Utc>>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 holds is still a wish to stay away for long.
        return Some(Duration::from_secs(
            value.parse().unwrap_or(u64::MAX / 1000),
        ));
    }
    let until = DateTime::<Utc>::from(httpdate::parse_http_date(value).ok()?);
    Some(
        (until - date.unwrap_or_else(Utc::now))
            .to_std()
            .unwrap_or(Duration::ZERO),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_schedule() {
        let ceilings: Vec<u128> = (0..9)
            .map(|retry| delay(retry, Duration::ZERO, 1.0).as_millis())
            .collect();
        assert_eq!(
            ceilings,
            [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]
        );
        assert_eq!(delay(40, Duration::ZERO, 1.0).as_millis(), 30_000);
        assert_eq!(delay(3, Duration::ZERO, 0.0), Duration::ZERO);
        assert_eq!(delay(1, Duration::ZERO, 0.25).as_millis(), 250);
    }

    #[test]
    fn a_wish_of_the_server_is_a_floor() {
        let floor = Duration::from_secs(7);
        assert_eq!(delay(0, floor, 0.0), floor);
        assert_eq!(delay(0, floor, 1.0), floor + Duration::from_millis(500));
    }

    #[test]
    fn retry_after_in_its_forms() {
        let date = "2026-05-18T10:00:00Z".parse().ok();
        let seconds = |value| retry_after(value, date).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("Mon, 18 May 2026 10:00:30 GMT"), Some(30));
        assert_eq!(seconds("Monday, 18-May-26 10:00:30 GMT"), Some(30));
        assert_eq!(seconds("Mon May 18 10:00:30 2026"), Some(30));
        assert_eq!(seconds("Mon, 18 May 2026 09:00:00 GMT"), Some(0));
        assert!(seconds("99999999999999999999999").is_some_and(|wait| wait > 86_400 * 365));
        for nonsense in ["", "soon", "-5", "1.5", "10 s"] {
            assert_eq!(seconds(nonsense), None, "{nonsense:?}");
        }
    }
}
