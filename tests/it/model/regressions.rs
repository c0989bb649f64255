//! Histories that failed once, or would fail without one safeguard, which the name describes.

use super::tables::End;
use super::upstream::{Change, Kind};
use super::{Counts, Cycle, History, Step, run_history};

fn assert_holds(cap: u8, rows: u8, ties: u8, steps: Vec<Step>) {
    let history = History { cap, rows, ties, steps };
    run_history(&history, &mut Counts::default()).unwrap();
}

/// Describes a cycle with these changes during its listing.
fn during(changes: &[(u8, Change)]) -> Cycle {
    Cycle { concurrency: 1, changes: changes.to_vec(), ..Cycle::plain() }
}

fn submit(kind: Kind, late: u8) -> Change {
    Change::Submit { created: 0, kind, late }
}

#[test]
fn a_page_from_before_the_page_size_grew_is_not_the_end() {
    let cycle = Cycle {
        concurrency: 4,
        responses: vec![0, 0, 0, 1],
        changes: vec![(4, Change::Cap { rows: 14 })],
        ..Cycle::plain()
    };
    assert_holds(9, 36, 1, vec![Step::Cycle(cycle)]);
}

#[test]
fn pages_of_three_rows_share_enough_to_join() {
    let cycle = Cycle { limit: 3, concurrency: 4, expected_rows: Some(47), ..Cycle::plain() };
    assert_holds(200, 43, 1, vec![Step::Cycle(cycle)]);
}

#[test]
fn a_page_that_begins_within_the_tie_of_the_frontier_does_not_join() {
    let drain = Change::Drain { place: 0, rows: 3 };
    let cycle = Cycle { limit: 3, ..during(&[(1, drain)]) };
    // Two rows that are not tied, and three that are
    let steps = [10, 5].map(|created| Change::Submit { created, kind: Kind::Valid, late: 0 });
    let mut steps: Vec<Step> = steps.into_iter().map(Step::Upstream).collect();
    steps.push(Step::Cycle(cycle));
    assert_holds(200, 3, 3, steps);
}

#[test]
fn an_entry_that_becomes_visible_before_the_watermark_is_created() {
    let steps = vec![
        // An entry that was validated later moves the watermark past it.
        Step::Upstream(submit(Kind::Valid, 250)),
        Step::Upstream(Change::Wait { seconds: 200 }),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(during(&[])),
        Step::Upstream(Change::Wait { seconds: 200 }),
        Step::Cycle(during(&[])),
    ];
    assert_holds(200, 0, 1, steps);
}

#[test]
fn an_entry_dated_in_the_future_does_not_move_the_watermark_there() {
    let steps = vec![
        Step::Cycle(during(&[(0, submit(Kind::Future, 0))])),
        Step::Upstream(submit(Kind::Valid, 0)),
    ];
    assert_holds(200, 0, 1, steps);
}

#[test]
fn an_entry_validated_during_a_long_listing_is_not_before_the_watermark() {
    let newest = Change::Submit { created: 255, kind: Kind::Valid, late: 0 };
    let long = Change::Wait { seconds: 200 };
    let steps = vec![
        // The first one enters above the rows read so far; the other one, much later, below.
        Step::Cycle(Cycle {
            limit: 5,
            ..during(&[(1, newest), (1, long), (1, submit(Kind::Valid, 0))])
        }),
    ];
    assert_holds(200, 9, 1, steps);
}

#[test]
fn a_rejected_entry_holds_the_watermark() {
    let steps = vec![
        Step::Upstream(submit(Kind::Invalid, 0)),
        Step::Upstream(Change::Wait { seconds: 1 }),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(during(&[])),
    ];
    assert_holds(200, 0, 1, steps);
}

#[test]
fn an_acceptance_ends_when_the_entry_is_validated_again() {
    let steps = vec![
        Step::Upstream(submit(Kind::Invalid, 0)),
        Step::Cycle(during(&[])),
        Step::Accept(0),
        Step::Cycle(during(&[])),
        Step::Upstream(Change::Reopen { place: 0 }),
        Step::Upstream(Change::Cancel { nth: 0, late: 0 }),
        Step::Cycle(during(&[])),
    ];
    assert_holds(200, 0, 1, steps);
}

#[test]
fn entries_before_since_are_created_by_the_next_plain_cycle() {
    let steps = vec![
        Step::Cycle(during(&[])),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Upstream(Change::Wait { seconds: 200 }),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(Cycle { since: Some(-10), ..during(&[]) }),
    ];
    assert_holds(200, 1, 1, steps);
}

#[test]
fn an_open_rejection_survives_a_later_since() {
    let steps = vec![
        Step::Upstream(submit(Kind::Invalid, 0)),
        Step::Cycle(during(&[])),
        Step::Upstream(Change::Wait { seconds: 200 }),
        Step::Cycle(Cycle { since: Some(-10), ..during(&[]) }),
    ];
    assert_holds(200, 0, 1, steps);
}

#[test]
fn a_rejection_without_a_time_is_retried() {
    let steps = vec![
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Upstream(submit(Kind::WithoutTime, 0)),
        Step::Upstream(Change::Edit { place: 0, valid: false }),
        Step::Cycle(during(&[])),
        Step::Cycle(during(&[])),
    ];
    assert_holds(200, 0, 1, steps);
}

#[test]
fn a_closed_rejection_is_recorded_again_when_its_entry_returns_late() {
    let steps = vec![
        Step::Upstream(submit(Kind::Invalid, 0)),
        Step::Cycle(during(&[])),
        Step::Accept(0),
        Step::Upstream(Change::Reopen { place: 0 }),
        Step::Cycle(during(&[])),
        Step::Upstream(Change::Cancel { nth: 0, late: 200 }),
        Step::Upstream(Change::Wait { seconds: 100 }),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(during(&[])),
        Step::Upstream(Change::Wait { seconds: 100 }),
        Step::Cycle(during(&[])),
    ];
    assert_holds(200, 0, 1, steps);
}

#[test]
fn an_overtaken_cycle_does_not_move_the_watermark_back() {
    let steps = vec![
        Step::Cycle(Cycle { end: End::Overtaken, ..during(&[]) }),
        Step::Upstream(Change::Wait { seconds: 200 }),
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(during(&[])),
    ];
    assert_holds(200, 1, 1, steps);
}

/// The role is removed during the listing and restored: the same rows have the same validation times.
#[test]
fn entries_hidden_by_a_lost_role_are_created_when_they_are_listed_again() {
    let lost = |all| Change::LoseRole { all };
    for (at, all) in [(0, true), (1, false), (1, true), (2, true)] {
        let steps = vec![
            Step::Cycle(Cycle { limit: 9, ..during(&[(at, lost(all))]) }),
            Step::Upstream(submit(Kind::Valid, 0)),
            Step::Upstream(Change::RegainRole),
            Step::Cycle(during(&[])),
        ];
        assert_holds(200, 40, 1, steps);
    }
}

#[test]
fn entries_omitted_by_a_faulty_server_are_created_later() {
    let steps = vec![
        Step::Cycle(Cycle { limit: 9, ..during(&[(1, Change::BadWorker { responses: 2 })]) }),
        Step::Cycle(during(&[(0, Change::BadWorker { responses: 1 })])),
    ];
    assert_holds(200, 40, 1, steps);
}

#[test]
fn a_row_deleted_by_the_application_is_not_created_again() {
    let mut steps = vec![Step::Cycle(during(&[])), Step::Delete(0)];
    for _ in 0..10 {
        steps.push(Step::Cycle(during(&[])));
        steps.push(Step::Upstream(submit(Kind::Valid, 0)));
    }
    steps.push(Step::Reset);
    assert_holds(200, 3, 1, steps);
}

#[test]
fn after_a_restore_of_all_tables_later_entries_are_created() {
    let steps = vec![
        Step::Cycle(during(&[])),
        Step::Backup { restore: false },
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Cycle(during(&[])),
        Step::Backup { restore: true },
        Step::Cycle(during(&[])),
    ];
    assert_holds(200, 3, 1, steps);
}

#[test]
fn a_watermark_set_later_and_back_skips_and_creates() {
    let steps = vec![
        Step::Upstream(submit(Kind::Valid, 0)),
        Step::Upstream(submit(Kind::WithoutTime, 0)),
        Step::Set(0),
        Step::Upstream(Change::Wait { seconds: 10 }),
        Step::Cycle(during(&[])),
        Step::Set(600),
        Step::Cycle(during(&[])),
    ];
    assert_holds(200, 3, 1, steps);
}
