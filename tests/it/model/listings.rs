//! Single listings: what a quiet one costs, what odd servers get, and every move of small lists.

use std::collections::BTreeSet;

use datapass_pull::list::decode::{Element, Key, ValidatedAt};
use datapass_pull::list::paging::Unproved;

use super::pages;
use super::upstream::instant;

/// A row, with its times in seconds.
#[derive(Debug, Clone, Copy)]
struct Row {
    id: i64,
    created: i64,
    validated: i64,
}

fn row(id: i64, created: i64) -> Row {
    Row {
        id,
        created,
        validated: 0,
    }
}

fn element(row: &Row) -> Element {
    Element {
        key: Key::Id(row.id.try_into().unwrap()),
        created_at: Some(instant(row.created)),
        last_validated_at: ValidatedAt::At(instant(row.validated)),
        entry: None,
    }
}

fn page(list: &[Row], offset: u64, rows: usize) -> Vec<Element> {
    let from = list.iter().skip(offset as usize);
    from.take(rows).map(element).collect()
}

/// Rows that each have their own `created_at`, newest first.
fn distinct(rows: i64) -> Vec<Row> {
    (1..=rows).map(|id| row(id, -id * 10)).collect()
}

/// Reads a list page by page.
fn read(limit: usize, mut serve: impl FnMut(u64) -> Vec<Element>) -> Result<usize, Unproved> {
    pages::read(limit, 1, None, |open| (0, serve(open[0]))).map(|proved| proved.elements.len())
}

/// How many requests a list takes that stands still, with 1, 2 and 4 pages in flight.
fn quiet(rows: i64, limit: usize, cap: usize, expected_rows: Option<u64>) -> [usize; 3] {
    let list = distinct(rows);
    [1, 2, 4].map(|concurrency| {
        let proved = pages::read(limit, concurrency, expected_rows, |open| {
            (0, page(&list, open[0], limit.min(cap)))
        });
        let proved = proved.unwrap();
        assert_eq!(proved.elements.len(), list.len());
        assert_eq!(proved.drift_rewinds, 0);
        proved.requests
    })
}

/// Exact counts: a quiet list takes the pages that its rows fill and one of the rows that pages share;
/// when its length is not known, also those that were asked for ahead of its end.
#[test]
fn a_quiet_list_takes_the_plain_count_of_requests_and_one() {
    // Rows, limit and the server's page size; requests with 1, 2 and 4 pages in flight when nothing is
    // known of the list, and with any number of them when its length is.
    let table: [(i64, usize, usize, [usize; 3], usize); 38] = [
        (0, 1000, 1000, [1, 1, 1], 1),
        (1, 1000, 1000, [1, 1, 1], 1),
        (4, 1000, 1000, [1, 1, 1], 1),
        (5, 1000, 1000, [2, 2, 2], 2),
        (20, 1000, 1000, [2, 2, 2], 2),
        (99, 1000, 1000, [2, 2, 2], 2),
        (100, 1000, 1000, [2, 2, 2], 2),
        (101, 1000, 1000, [2, 2, 2], 2),
        (250, 1000, 1000, [2, 2, 2], 2),
        (999, 1000, 1000, [2, 2, 2], 2),
        (1000, 1000, 1000, [2, 3, 5], 2),
        (1001, 1000, 1000, [3, 4, 6], 3),
        (2500, 1000, 1000, [4, 5, 7], 4),
        (0, 100, 1000, [1, 1, 1], 1),
        (1, 100, 1000, [1, 1, 1], 1),
        (4, 100, 1000, [1, 1, 1], 1),
        (5, 100, 1000, [2, 2, 2], 2),
        (20, 100, 1000, [2, 2, 2], 2),
        (99, 100, 1000, [2, 2, 2], 2),
        (100, 100, 1000, [2, 3, 5], 2),
        (101, 100, 1000, [3, 4, 6], 3),
        (250, 100, 1000, [4, 4, 6], 4),
        (999, 100, 1000, [14, 15, 17], 14),
        (1000, 100, 1000, [14, 15, 17], 14),
        (1001, 100, 1000, [14, 15, 17], 14),
        (2500, 100, 1000, [32, 33, 35], 32),
        (99, 1000, 100, [2, 2, 2], 2),
        (100, 1000, 100, [2, 2, 2], 2),
        (101, 1000, 100, [3, 3, 3], 3),
        (250, 1000, 100, [4, 4, 6], 4),
        (999, 1000, 100, [14, 15, 17], 14),
        (1000, 1000, 100, [14, 15, 17], 14),
        (1001, 1000, 100, [14, 15, 17], 14),
        (2500, 1000, 100, [32, 33, 35], 32),
        (20, 1000, 20, [2, 2, 2], 2),
        (99, 1000, 20, [10, 10, 12], 10),
        (100, 1000, 20, [10, 11, 13], 10),
        (250, 1000, 20, [25, 26, 28], 25),
    ];
    for (rows, limit, cap, unknown, known) in table {
        let of = format!("{rows} rows, limit {limit}, cap {cap}");
        assert_eq!(quiet(rows, limit, cap, None), unknown, "{of}");
        assert_eq!(
            quiet(rows, limit, cap, Some(rows as u64)),
            [known; 3],
            "{of}"
        );
    }
}

/// The server's page size changes before any answer, up or down, while the rows stand still. What is
/// excluded is a fall to the very number of rows that two pages share.
#[test]
fn a_page_size_that_changes_in_mid_listing_loses_nothing() {
    let list = distinct(250);
    for (before, after) in [
        (100, 60),
        (60, 100),
        (100, 21),
        (100, 10),
        (30, 200),
        (200, 5),
    ] {
        for concurrency in [1, 2, 4] {
            for at in 1..20 {
                let mut answers = 0;
                let proved = pages::read(1000, concurrency, None, |open| {
                    answers += 1;
                    let rows = if answers <= at { before } else { after };
                    (0, page(&list, open[0], rows))
                });
                let listed = proved.unwrap().elements.len();
                assert_eq!(
                    listed, 250,
                    "{before} to {after} after {at} answers, {concurrency}"
                );
            }
        }
    }
}

/// A burst ahead, or a step back, makes two pages share far more than the overlap; when the page size
/// falls below that, the page adds nothing, is shorter, and is still not the end.
#[test]
fn a_short_page_that_stops_before_what_was_seen_is_not_the_end() {
    let list = distinct(250);
    let mut burst: Vec<Row> = (1..=70).map(|id| row(1000 - id, 1000 - id)).collect();
    burst.extend(&list);
    let drained = &list[45..];
    for (list, small_from, shared) in [(&burst[..], 2, 90), (drained, 3, 35)] {
        for cap in (5..60).filter(|cap| *cap != shared) {
            let mut answers = 0;
            let proved = pages::read(1000, 1, None, |open| {
                answers += 1;
                let rows = if answers < small_from { 100 } else { cap };
                let list = if answers == 1 { &distinct(250) } else { list };
                (0, page(list, open[0], rows))
            });
            let keys = match proved {
                Ok(proved) => proved.elements,
                Err(error) => {
                    assert!(cap < 10, "pages of {cap}: {error}");
                    continue;
                }
            };
            let still = list.iter().filter(|row| row.id <= 250);
            let lost: Vec<_> = still
                .filter(|row| !keys.contains_key(&element(row).key))
                .collect();
            assert!(lost.is_empty(), "pages of {cap}: {lost:?}");
        }
    }
}

/// No page but the first ever joins: that ends, and says that nothing was proved.
#[test]
fn a_list_that_moves_without_end_is_given_up_within_its_bound() {
    for (rows, bound) in [(5, 40), (100, 40), (1000, 40)] {
        for concurrency in [1, 2, 4] {
            let mut answers = 0;
            let outcome = pages::read(rows, concurrency, None, |open| {
                answers += 1;
                let older = if open[0] == 0 { 0 } else { 1_000_000 };
                let list: Vec<Row> = (1..=rows as i64).map(|id| row(id, -id - older)).collect();
                (0, page(&list, 0, rows))
            });
            assert_eq!(outcome.err(), Some(Unproved::Moving));
            assert!(answers <= bound, "{answers} requests for pages of {rows}");
        }
    }
}

#[test]
fn a_server_that_does_not_page_gives_the_whole_list_or_an_error() {
    let list = distinct(10);
    let serve = |_| page(&list, 0, 10);
    assert_eq!(read(20, serve), Ok(10));
    assert_eq!(read(10, serve), Err(Unproved::NoPaging));
}

#[test]
fn rows_without_order_or_time_are_read_twice() {
    let mut list = distinct(25);
    list.reverse();
    let serve = |offset: u64, change: fn(&mut Element)| {
        let mut rows = page(&list, offset, 10);
        rows.iter_mut().for_each(change);
        rows
    };
    assert_eq!(read(10, |offset| serve(offset, |_| ())), Ok(25));
    let timeless: fn(&mut Element) = |row| row.created_at = None;
    assert_eq!(read(10, |offset| serve(offset, timeless)), Ok(25));
    let tied: fn(&mut Element) = |row| row.created_at = Some(instant(0));
    assert_eq!(read(10, |offset| serve(offset, tied)), Ok(25));
}

#[test]
fn a_tie_that_never_stands_still_is_not_proved() {
    let mut shift = 0;
    let serve = |offset: u64| {
        shift += 1;
        let mut tied: Vec<Row> = (1..=25).map(|id| row(id, 0)).collect();
        tied.rotate_left(shift % 25);
        page(&tied, offset, 10)
    };
    assert_eq!(read(10, serve), Err(Unproved::Tie));
}

/// Something that happens to a small list; a place is an index in it.
#[derive(Debug, Clone, Copy)]
enum Small {
    /// The row there leaves.
    Leave(usize),
    /// The row there leaves with as many behind it.
    LeaveWith(usize, usize),
    /// The row that left last comes back, validated anew.
    Return,
    /// A row enters there, and ties with the one that it pushes down.
    EnterTied(usize),
    /// A row enters there that ties with none.
    Enter(usize),
    /// The row there and the next one swap, if they tie.
    Swap(usize),
}

/// A small list that moves.
struct SmallList {
    rows: Vec<Row>,
    /// The rows that left, in this order.
    left: Vec<Row>,
    moves: i64,
}

impl SmallList {
    fn make(&mut self, step: Small) {
        self.moves += 1;
        let new_id = 100 + self.moves;
        let rows = &mut self.rows;
        match step {
            Small::Leave(place) if place < rows.len() => self.left.push(rows.remove(place)),
            Small::LeaveWith(place, more) if place + more < rows.len() => {
                self.left.extend(rows.drain(place..=place + more));
            }
            Small::Return => {
                if let Some(back) = self.left.pop() {
                    let place = rows.partition_point(|other| other.created > back.created);
                    let validated = self.moves;
                    rows.insert(place, Row { validated, ..back });
                }
            }
            Small::EnterTied(place) if place < rows.len() => {
                rows.insert(place, row(new_id, rows[place].created));
            }
            Small::Enter(place) if place <= rows.len() => {
                let created = match place.checked_sub(1) {
                    None => new_id,
                    Some(above) => rows[above].created - 1,
                };
                if rows.get(place).is_none_or(|below| below.created < created) {
                    rows.insert(place, row(new_id, created));
                }
            }
            Small::Swap(place) => {
                if let Some([one, other]) = rows.get_mut(place..place + 2)
                    && one.created == other.created
                {
                    std::mem::swap(one, other);
                }
            }
            _ => {}
        }
    }
}

/// Everything that may happen to a list of so many rows.
fn all_moves(rows: usize) -> Vec<Small> {
    let mut moves = Vec::new();
    for place in 0..rows {
        moves.extend([
            Small::Leave(place),
            Small::LeaveWith(place, 1),
            Small::LeaveWith(place, 2),
            Small::Enter(place),
            Small::EnterTied(place),
            Small::Swap(place),
        ]);
    }
    moves.extend([Small::Enter(rows), Small::Return]);
    moves
}

/// How a small list is read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    limit: usize,
    concurrency: usize,
    expected_rows: Option<u64>,
    /// Whether the page that was asked for last is answered first.
    last_first: bool,
}

#[derive(Debug, Default)]
struct Explored {
    proved: u64,
    given_up: u64,
    requests: u64,
}

/// Reads the list under every placement of up to `more` further moves, none before the first answer.
fn explore(
    list: &[Row],
    reading: Reading,
    moves: &mut Vec<(usize, Small)>,
    more: usize,
    explored: &mut Explored,
) {
    let mut now = SmallList {
        rows: list.to_vec(),
        left: Vec::new(),
        moves: 0,
    };
    let mut still: BTreeSet<i64> = list.iter().map(|row| row.id).collect();
    let mut answers = 0;
    let (limit, concurrency) = (reading.limit, reading.concurrency);
    let proved = pages::read(limit, concurrency, reading.expected_rows, |open| {
        for (_, step) in moves.iter().filter(|(at, _)| *at == answers) {
            now.make(*step);
        }
        answers += 1;
        still.retain(|id| now.rows.iter().any(|row| row.id == *id));
        let nth = if reading.last_first {
            open.len() - 1
        } else {
            0
        };
        (nth, page(&now.rows, open[nth], limit))
    });
    explored.requests += answers as u64;
    match proved {
        Err(error) => {
            assert!(!moves.is_empty(), "a quiet list is given up: {error}");
            explored.given_up += 1;
        }
        Ok(proved) => {
            explored.proved += 1;
            for id in still {
                let key = Key::Id(id.try_into().unwrap());
                assert!(
                    proved.elements.contains_key(&key),
                    "D{id} stood still and is not listed: {list:?}, {reading:?}, {moves:?}"
                );
            }
        }
    }
    let Some(more) = more.checked_sub(1) else {
        return;
    };
    let from = moves.last().map_or(1, |(at, _)| *at);
    for at in from..answers {
        for step in all_moves(list.len()) {
            moves.push((at, step));
            explore(list, reading, moves, more, explored);
            moves.pop();
        }
    }
}

/// Small lists, the ways in which they tie, and every placement of a move or two. With
/// `PROPTEST_CASES` set, all lists of up to seven rows and all the ways.
#[test]
fn no_move_of_a_small_list_loses_a_row() {
    let all = std::env::var_os("PROPTEST_CASES").is_some();
    let mut explored = Explored::default();
    for rows in 3..=7_u32 {
        for ties in 0..1_u32 << (rows - 1) {
            let tie_count = ties.count_ones();
            let sampled = match rows {
                4 => tie_count < 2,
                5 => true,
                7 => tie_count == 0 || tie_count == 6,
                _ => false,
            };
            if !all && !sampled {
                continue;
            }
            let mut created = 0;
            let list: Vec<Row> = (0..rows)
                .map(|nth| {
                    let ties_with_last = nth > 0 && ties >> (nth - 1) & 1 == 1;
                    created -= i64::from(!ties_with_last) * 10;
                    row(i64::from(nth) + 1, created)
                })
                .collect();
            for limit in 1..=5 {
                for (concurrency, expected_rows) in [(1, None), (2, Some(7)), (3, None)] {
                    // Such pages are read one after the other.
                    if limit < 3 && concurrency > 1 {
                        continue;
                    }
                    let reading = Reading {
                        limit,
                        concurrency,
                        expected_rows,
                        last_first: concurrency > 1,
                    };
                    let two = limit > 2 && (tie_count == 0 && rows == 4 || all && tie_count < 3);
                    let moves = 1 + usize::from(two);
                    explore(&list, reading, &mut Vec::new(), moves, &mut explored);
                }
            }
        }
    }
    println!("{explored:?}");
}

/// Reads a small list row by row, so that it is read twice, while this happens; nothing is lost.
fn read_twice(list: &[Row], moves: &[(usize, Small)]) {
    let reading = Reading {
        limit: 1,
        concurrency: 1,
        expected_rows: None,
        last_first: false,
    };
    let mut explored = Explored::default();
    explore(list, reading, &mut moves.to_vec(), 0, &mut explored);
    assert_eq!((explored.proved, explored.given_up), (1, 0));
}

/// A row that is away whenever the list is read to its end makes room for one that is never seen. Both
/// readings give the same rows; only its new validation tells that it was away.
#[test]
fn a_row_that_leaves_and_returns_between_two_readings_hides_none() {
    let moves = [
        (2, Small::Leave(0)),
        (4, Small::Return),
        (5, Small::Leave(0)),
    ];
    read_twice(&distinct(3), &moves);
}

/// Two rows that tie swap while either reading goes by: both see one of them twice, and the other not.
#[test]
fn a_row_that_is_read_twice_hides_none_that_it_swaps_with() {
    let moves = [
        (2, Small::Swap(0)),
        (6, Small::Swap(0)),
        (7, Small::Swap(0)),
    ];
    read_twice(&[row(1, 0), row(2, 0), row(3, 0)], &moves);
}
