//! Histories that once went wrong, or would if one guard were gone: each name says which.

use super::tables::{End, LOOKBACK_S};
use super::upstream::{Kind, Move};
use super::{Counts, Cycle, History, Step, drive};

fn holds(cap: u8, rows: u8, ties: u8, steps: Vec<Step>) {
    let history = History {
        cap,
        rows,
        ties,
        steps,
    };
    drive(&history, &mut Counts::default()).unwrap();
}

/// A cycle during which this happens.
fn during(moves: &[(u8, Move)]) -> Cycle {
    Cycle {
        concurrency: 1,
        moves: moves.to_vec(),
        ..Cycle::plain()
    }
}

fn submit(kind: Kind, late: u8) -> Move {
    Move::Submit {
        created: 0,
        kind,
        late,
    }
}

#[test]
fn a_page_answered_before_the_page_size_grew_is_not_the_end() {
    let cycle = Cycle {
        concurrency: 4,
        answers: vec![0, 0, 0, 1],
        moves: vec![(4, Move::Cap { rows: 14 })],
        ..Cycle::plain()
    };
    holds(9, 36, 1, vec![Step::Cycle(cycle)]);
}

#[test]
fn pages_of_three_rows_share_enough_to_join() {
    let cycle = Cycle {
        limit: 3,
        concurrency: 4,
        expected_rows: Some(47),
        ..Cycle::plain()
    };
    holds(200, 43, 1, vec![Step::Cycle(cycle)]);
}

#[test]
fn a_page_that_begins_inside_the_frontiers_tie_does_not_join() {
    let drain = Move::Drain { place: 0, rows: 3 };
    let cycle = Cycle {
        limit: 3,
        ..during(&[(1, drain)])
    };
    // Two of their own, and three that tie.
    let steps = [10, 5].map(|created| Move::Submit {
        created,
        kind: Kind::Valid,
        late: 0,
    });
    let mut steps: Vec<Step> = steps.into_iter().map(Step::Upstream).collect();
    steps.push(Step::Cycle(cycle));
    holds(200, 3, 3, steps);
}

#[test]
fn the_look_back_takes_a_validation_that_became_visible_late() {
    let steps = vec![
        // As late as the look-back allows; what was validated after it carries the watermark past it.
        Step::Upstream(submit(Kind::Valid, LOOKBACK_S)),
        Step::Upstream(Move::Wait {
            seconds: LOOKBACK_S - 2,
        }),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(during(&[])),
    ];
    holds(200, 0, 1, steps);
}

#[test]
fn an_entry_dated_in_the_future_does_not_carry_the_watermark_there() {
    let steps = vec![
        Step::Cycle(during(&[(0, submit(Kind::Future, 0))])),
        Step::Upstream(submit(Kind::Valid, 0)),
    ];
    holds(200, 0, 1, steps);
}

#[test]
fn what_is_validated_during_a_long_listing_is_not_behind_the_watermark() {
    let newest = Move::Submit {
        created: 255,
        kind: Kind::Valid,
        late: 0,
    };
    let long = Move::Wait { seconds: 200 };
    let steps = vec![
        // The first enters above what was read; the other, two look-backs later, below.
        Step::Cycle(Cycle {
            limit: 5,
            ..during(&[(1, newest), (1, long), (1, submit(Kind::Valid, 0))])
        }),
    ];
    holds(200, 9, 1, steps);
}

#[test]
fn a_rejected_entry_holds_the_watermark() {
    let steps = vec![
        Step::Upstream(submit(Kind::Invalid, 0)),
        Step::Upstream(Move::Wait { seconds: 1 }),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(during(&[])),
    ];
    holds(200, 0, 1, steps);
}

#[test]
fn an_acceptance_ends_when_the_entry_is_validated_again() {
    let steps = vec![
        Step::Upstream(submit(Kind::Invalid, 0)),
        Step::Cycle(during(&[])),
        Step::Accept(0),
        Step::Cycle(during(&[])),
        Step::Upstream(Move::Reopen { place: 0 }),
        Step::Upstream(Move::Cancel { nth: 0, late: 0 }),
        Step::Cycle(during(&[])),
    ];
    holds(200, 0, 1, steps);
}

#[test]
fn a_since_later_than_the_look_back_leaves_the_watermark() {
    let steps = vec![
        Step::Cycle(during(&[])),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Upstream(Move::Wait { seconds: 200 }),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(Cycle {
            since: Some(-10),
            ..during(&[])
        }),
    ];
    holds(200, 1, 1, steps);
}

#[test]
fn an_open_rejection_is_tried_again_even_by_a_later_since() {
    let steps = vec![
        Step::Upstream(submit(Kind::Invalid, 0)),
        Step::Cycle(during(&[])),
        Step::Upstream(Move::Wait { seconds: 200 }),
        Step::Cycle(Cycle {
            since: Some(-10),
            ..during(&[])
        }),
    ];
    holds(200, 0, 1, steps);
}

#[test]
fn a_rejection_without_a_time_is_tried_again() {
    let steps = vec![
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Upstream(submit(Kind::Timeless, 0)),
        Step::Upstream(Move::Edit {
            place: 0,
            valid: false,
        }),
        Step::Cycle(during(&[])),
        // No first run any more.
        Step::Cycle(during(&[])),
    ];
    holds(200, 0, 1, steps);
}

#[test]
fn a_rejection_that_was_closed_is_not_open_when_it_comes_back_late() {
    let steps = vec![
        Step::Upstream(submit(Kind::Invalid, 0)),
        Step::Cycle(during(&[])),
        Step::Accept(0),
        Step::Upstream(Move::Reopen { place: 0 }),
        Step::Cycle(during(&[])),
        Step::Upstream(Move::Cancel { nth: 0, late: 200 }),
        Step::Upstream(Move::Wait { seconds: 100 }),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(during(&[])),
        Step::Upstream(Move::Wait { seconds: 100 }),
        Step::Cycle(during(&[])),
    ];
    holds(200, 0, 1, steps);
}

#[test]
fn an_overtaken_run_does_not_take_the_watermark_back() {
    let steps = vec![
        Step::Cycle(Cycle {
            end: End::IsOvertaken,
            ..during(&[])
        }),
        Step::Upstream(Move::Wait { seconds: 200 }),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(during(&[])),
    ];
    holds(200, 1, 1, steps);
}
