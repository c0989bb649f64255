//! Histories that once went wrong, or would if one guard were gone: each name says which.

use super::tables::End;
use super::upstream::{Kind, Move};
use super::{Counts, Cycle, History, Step, drive};

fn holds(cap: u8, rows: u8, ties: u8, steps: Vec<Step>) {
    let history = History { cap, rows, ties, steps };
    drive(&history, &mut Counts::default()).unwrap();
}

/// A cycle during which this happens.
fn during(moves: &[(u8, Move)]) -> Cycle {
    Cycle { concurrency: 1, moves: moves.to_vec(), ..Cycle::plain() }
}

fn submit(kind: Kind, late: u8) -> Move {
    Move::Submit { created: 0, kind, late }
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
    let cycle = Cycle { limit: 3, concurrency: 4, expected_rows: Some(47), ..Cycle::plain() };
    holds(200, 43, 1, vec![Step::Cycle(cycle)]);
}

#[test]
fn a_page_that_begins_inside_the_frontiers_tie_does_not_join() {
    let drain = Move::Drain { place: 0, rows: 3 };
    let cycle = Cycle { limit: 3, ..during(&[(1, drain)]) };
    // Two of their own, and three that tie.
    let steps = [10, 5].map(|created| Move::Submit { created, kind: Kind::Valid, late: 0 });
    let mut steps: Vec<Step> = steps.into_iter().map(Step::Upstream).collect();
    steps.push(Step::Cycle(cycle));
    holds(200, 3, 3, steps);
}

#[test]
fn a_validation_that_becomes_visible_behind_the_watermark_is_created() {
    let steps = vec![
        // What was validated after it carries the watermark past it.
        Step::Upstream(submit(Kind::Valid, 250)),
        Step::Upstream(Move::Wait { seconds: 200 }),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(during(&[])),
        Step::Upstream(Move::Wait { seconds: 200 }),
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
    let newest = Move::Submit { created: 255, kind: Kind::Valid, late: 0 };
    let long = Move::Wait { seconds: 200 };
    let steps = vec![
        // The first enters above what was read; the other, much later, below.
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
fn a_since_leaves_what_waits_before_it_to_the_next_plain_cycle() {
    let steps = vec![
        Step::Cycle(during(&[])),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Upstream(Move::Wait { seconds: 200 }),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(Cycle { since: Some(-10), ..during(&[]) }),
    ];
    holds(200, 1, 1, steps);
}

#[test]
fn an_open_rejection_outlives_a_later_since() {
    let steps = vec![
        Step::Upstream(submit(Kind::Invalid, 0)),
        Step::Cycle(during(&[])),
        Step::Upstream(Move::Wait { seconds: 200 }),
        Step::Cycle(Cycle { since: Some(-10), ..during(&[]) }),
    ];
    holds(200, 0, 1, steps);
}

#[test]
fn a_rejection_without_a_time_is_retried() {
    let steps = vec![
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Upstream(submit(Kind::Timeless, 0)),
        Step::Upstream(Move::Edit { place: 0, valid: false }),
        Step::Cycle(during(&[])),
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
        Step::Cycle(Cycle { end: End::IsOvertaken, ..during(&[]) }),
        Step::Upstream(Move::Wait { seconds: 200 }),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(during(&[])),
    ];
    holds(200, 1, 1, steps);
}

/// The role goes in mid-listing and comes back: the same rows, with the same validation times.
#[test]
fn entries_that_a_lost_role_hid_are_created_when_they_are_shown_again() {
    let lost = |all| Move::LoseRole { all };
    for (at, all) in [(0, true), (1, false), (1, true), (2, true)] {
        let steps = vec![
            Step::Cycle(Cycle { limit: 9, ..during(&[(at, lost(all))]) }),
            Step::Upstream(submit(Kind::Valid, 0)),
            Step::Upstream(Move::RegainRole),
            Step::Cycle(during(&[])),
        ];
        holds(200, 40, 1, steps);
    }
}

#[test]
fn entries_that_a_bad_worker_left_out_are_created_later() {
    let steps = vec![
        Step::Cycle(Cycle { limit: 9, ..during(&[(1, Move::BadWorker { answers: 2 })]) }),
        Step::Cycle(during(&[(0, Move::BadWorker { answers: 1 })])),
    ];
    holds(200, 40, 1, steps);
}

#[test]
fn a_row_that_the_application_deleted_is_not_created_again() {
    let mut steps = vec![Step::Cycle(during(&[])), Step::Delete(0)];
    for _ in 0..10 {
        steps.push(Step::Cycle(during(&[])));
        steps.push(Step::Upstream(submit(Kind::Valid, 0)));
    }
    steps.push(Step::Reset);
    holds(200, 3, 1, steps);
}

#[test]
fn a_restore_of_all_tables_creates_what_came_after_the_backup() {
    let steps = vec![
        Step::Cycle(during(&[])),
        Step::Backup { restore: false },
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(during(&[])),
        Step::Backup { restore: true },
        Step::Cycle(during(&[])),
    ];
    holds(200, 3, 1, steps);
}

#[test]
fn a_watermark_set_later_and_back_skips_and_creates() {
    let steps = vec![
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Upstream(submit(Kind::Timeless, 0)),
        Step::Set(0),
        Step::Upstream(Move::Wait { seconds: 10 }),
        Step::Cycle(during(&[])),
        Step::Set(600),
        Step::Cycle(during(&[])),
    ];
    holds(200, 3, 1, steps);
}
