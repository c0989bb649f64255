//! Entries that failed validation: one small state machine, and its rows.
//!
//! An entry that fails is *open*: it holds the watermark and is tried again every cycle. A person
//! may *accept* it as it is, for the validation time that it has; validated again, it is open anew.
//! An entry that passes, or leaves the listing, is *closed*; should it come back and fail, it is
//! open again, or still accepted when it is still the validation that was accepted.

use chrono::{DateTime, Utc};

/// The state of a rejected entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Holds the watermark.
    Open,
    /// Left alone by a person's decision.
    Accepted,
    /// Passed, or left the listing.
    Closed,
}

/// What a cycle saw of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// It failed validation; with its validation time, when it has a readable one.
    Failed(Option<DateTime<Utc>>),
    /// It passed, or the table has it already.
    Passed,
    /// It is not listed any more.
    Left,
}

/// A decision of a person: accepted, for this validation time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceptance(pub Option<DateTime<Utc>>);

/// Returns the state after a cycle.
///
/// The state before it does not matter, but for a person's decision, which outlives a closure.
pub fn next(acceptance: Option<Acceptance>, observed: Observed) -> State {
    match observed {
        Observed::Passed | Observed::Left => State::Closed,
        Observed::Failed(time) if acceptance == Some(Acceptance(time)) => State::Accepted,
        Observed::Failed(_) => State::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transition() {
        let first = DateTime::from_timestamp(1_800_000_000, 0);
        let again = DateTime::from_timestamp(1_800_000_001, 0);
        let accepted = Some(Acceptance(first));
        let timeless = Some(Acceptance(None));
        for (acceptance, observed, expected) in [
            (None, Observed::Failed(first), State::Open),
            (None, Observed::Failed(None), State::Open),
            (None, Observed::Passed, State::Closed),
            (None, Observed::Left, State::Closed),
            (accepted, Observed::Failed(first), State::Accepted),
            (accepted, Observed::Failed(again), State::Open),
            (accepted, Observed::Failed(None), State::Open),
            (accepted, Observed::Passed, State::Closed),
            (accepted, Observed::Left, State::Closed),
            (timeless, Observed::Failed(None), State::Accepted),
            (timeless, Observed::Failed(first), State::Open),
        ] {
            assert_eq!(
                next(acceptance, observed),
                expected,
                "{acceptance:?} {observed:?}"
            );
        }
    }
}
