//! Advance: where the watermark goes, as one pure function.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// What a cycle knows when it is about to advance.
#[derive(Debug, Clone, Copy)]
pub struct Covered {
    /// The instant that the cycle listed from; none means everything.
    pub since: Option<DateTime<Utc>>,
    /// How far before the watermark a plain cycle looks again.
    pub lookback: Duration,
    /// The greatest validation time of an entry that is not later than DataPass' clock when the
    /// listing began. A later one may be followed by an earlier one that is not listed yet.
    pub newest: Option<DateTime<Utc>>,
    /// The oldest validation time of an entry that is rejected and not accepted.
    pub oldest_rejected: Option<DateTime<Utc>>,
}

/// Returns the instant that a cycle lists from when the watermark is `stored`.
pub fn since(stored: DateTime<Utc>, lookback: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(lookback)
        .ok()
        .and_then(|lookback| stored.checked_sub_signed(lookback))
        .unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// Returns the watermark to keep, given the one that is `stored` now.
///
/// It never goes back, and it moves only when the cycle covered what a plain one would have, from
/// the stored watermark less the look-back: else entries between the two would never be listed
/// again. The stored one is that of this instant, under the row's lock; another run may have moved
/// or reset it since this one began.
pub fn watermark(stored: Option<DateTime<Utc>>, covered: Covered) -> Option<DateTime<Utc>> {
    let plain_since = stored.map(|stored| since(stored, covered.lookback));
    let covers = covered
        .since
        .is_none_or(|from| plain_since.is_some_and(|plain| from <= plain));
    if !covers {
        return stored;
    }
    let held = |newest: DateTime<Utc>| {
        covered
            .oldest_rejected
            .map_or(newest, |rejected| newest.min(rejected))
    };
    // `None` is smaller than any instant, so this never goes back.
    stored.max(covered.newest.map(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKBACK: Duration = Duration::from_secs(2);

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    /// Rule 5 of a cycle, said again in its own words, over every combination of small instants.
    #[test]
    fn exhaustive() {
        let instants: Vec<_> = (0..7)
            .map(|second| Some(at(second)))
            .chain([None])
            .collect();
        let mut checked = 0;
        for &stored in &instants {
            for &since in &instants {
                for &newest in &instants {
                    for &oldest_rejected in &instants {
                        let covered = Covered {
                            since,
                            lookback: LOOKBACK,
                            newest,
                            oldest_rejected,
                        };
                        let next = watermark(stored, covered);

                        let covers = match (since, stored) {
                            (None, _) => true,
                            (Some(_), None) => false,
                            (Some(since), Some(stored)) => {
                                since.timestamp() <= stored.timestamp() - 2
                            }
                        };
                        let target = match (newest, oldest_rejected) {
                            (Some(newest), Some(rejected)) if rejected < newest => Some(rejected),
                            (newest, _) => newest,
                        };
                        let expected = match (stored, target) {
                            _ if !covers => stored,
                            (Some(stored), Some(target)) if target < stored => Some(stored),
                            (stored, None) => stored,
                            (_, target) => target,
                        };
                        assert_eq!(next, expected, "{stored:?} {covered:?}");
                        assert!(next >= stored, "went back: {stored:?} {covered:?}");
                        checked += 1;
                    }
                }
            }
        }
        assert_eq!(checked, 8 * 8 * 8 * 8);
    }

    #[test]
    fn an_endless_lookback_is_everything() {
        assert_eq!(since(at(0), Duration::MAX), DateTime::<Utc>::MIN_UTC);
        assert_eq!(since(at(5), LOOKBACK), at(3));
    }
}
