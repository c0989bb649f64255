//! Advance: where the watermark goes, as one pure function.

use chrono::{DateTime, Utc};

/// Returns the watermark to keep, given the one that is `stored` now, under the row's lock.
///
/// It is a report of progress and never goes back. `newest` is the greatest validation time of a
/// listed entry that is not later than DataPass' clock; `oldest_open` the oldest one of an entry that
/// still waits: rejected, or left to the next plain cycle.
pub fn watermark(
    stored: Option<DateTime<Utc>>,
    newest: Option<DateTime<Utc>>,
    oldest_open: Option<DateTime<Utc>>,
) -> Option<DateTime<Utc>> {
    let held = newest.map(|newest| oldest_open.map_or(newest, |open| newest.min(open)));
    // `None` is smaller than any time.
    stored.max(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of none and three times, against the rule in words.
    #[test]
    fn the_watermark_never_decreases_and_stops_at_the_oldest_open_entry() {
        let times: Vec<Option<DateTime<Utc>>> = [None, Some(1), Some(2), Some(3)]
            .map(|it| it.and_then(|seconds| DateTime::from_timestamp(seconds, 0)))
            .to_vec();
        for &stored in &times {
            for &newest in &times {
                for &open in &times {
                    let moved = watermark(stored, newest, open);
                    let case = format!("{stored:?} {newest:?} {open:?}");
                    assert!(moved >= stored, "back: {case}");
                    assert!(moved == stored || moved <= newest, "past the newest: {case}");
                    let passes = open.is_some() && moved > open;
                    assert!(moved == stored || !passes, "past what waits: {case}");
                    let reaches = moved >= newest || (open.is_some() && moved >= open);
                    assert!(reaches, "short: {case}");
                }
            }
        }
    }
}
