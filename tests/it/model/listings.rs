//! Single listings: what a quiet one costs, and what odd servers get.

use std::collections::BTreeSet;

use datapass_pull::cycle::list::paging::Unproved;
use datapass_pull::types::entry::{Element, Key, ValidatedAt};

use super::pages;
use super::upstream::instant;

/// A row, with its times in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub id: i64,
    pub created: i64,
    pub validated: i64,
}

pub fn row(id: i64, created: i64) -> Row {
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

pub fn page(list: &[Row], offset: u64, rows: usize) -> Vec<Element> {
    let from = list.iter().skip(offset as usize);
    from.take(rows).map(element).collect()
}

/// Rows that each have their own `created_at`, newest first.
pub fn distinct(rows: i64) -> Vec<Row> {
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

/// Exact counts: a quiet list takes the pages that its rows fill and one of the rows that pages share,
/// two of those when the rows fill their pages exactly; when its length is not known, also those that
/// were asked for ahead of its end.
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
        (1000, 1000, 1000, [3, 4, 6], 3),
        (1001, 1000, 1000, [3, 4, 6], 3),
        (2500, 1000, 1000, [4, 5, 7], 4),
        (0, 100, 1000, [1, 1, 1], 1),
        (1, 100, 1000, [1, 1, 1], 1),
        (4, 100, 1000, [1, 1, 1], 1),
        (5, 100, 1000, [2, 2, 2], 2),
        (20, 100, 1000, [2, 2, 2], 2),
        (99, 100, 1000, [2, 2, 2], 2),
        (100, 100, 1000, [3, 4, 6], 3),
        (101, 100, 1000, [3, 4, 6], 3),
        (250, 100, 1000, [4, 5, 7], 4),
        (999, 100, 1000, [14, 15, 17], 14),
        (1000, 100, 1000, [14, 15, 17], 14),
        (1001, 100, 1000, [14, 15, 17], 14),
        (2500, 100, 1000, [33, 34, 36], 33),
        (99, 1000, 100, [2, 2, 2], 2),
        (100, 1000, 100, [2, 2, 2], 2),
        (101, 1000, 100, [3, 3, 3], 3),
        (250, 1000, 100, [4, 5, 7], 4),
        (999, 1000, 100, [14, 15, 17], 14),
        (1000, 1000, 100, [14, 15, 17], 14),
        (1001, 1000, 100, [14, 15, 17], 14),
        (2500, 1000, 100, [32, 32, 34], 32),
        (20, 1000, 20, [2, 2, 2], 2),
        (99, 1000, 20, [10, 10, 12], 10),
        (100, 1000, 20, [10, 10, 12], 10),
        (250, 1000, 20, [25, 25, 27], 25),
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

/// The server's page size changes before any answer, up or down, while the rows stand still; also to
/// the very number of rows that two pages share.
#[test]
fn a_page_size_that_changes_in_mid_listing_loses_nothing() {
    let list = distinct(250);
    for (before, after) in [
        (100, 60),
        (60, 100),
        (100, 21),
        (100, 20),
        (100, 10),
        (40, 21),
        (20, 11),
        (40, 20),
        (26, 13),
        (20, 10),
        (10, 5),
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

/// The server draws its page size anew for each answer, and rows enter and leave between two of them.
#[test]
fn pages_of_any_size_lose_nothing() {
    let mut proved = 0;
    for seed in 0..4000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut list = distinct(rng.i64(0..120));
        let mut still: BTreeSet<i64> = list.iter().map(|row| row.id).collect();
        let (moves, concurrency) = (rng.usize(0..12), rng.usize(1..=4));
        let mut next_id = 1000;
        let outcome = pages::read(1000, concurrency, None, |open| {
            if !list.is_empty() && rng.usize(0..12) < moves {
                let gone = list.remove(rng.usize(0..list.len()));
                still.remove(&gone.id);
            }
            if rng.usize(0..12) < moves {
                next_id += 1;
                list.insert(0, row(next_id, next_id));
            }
            let nth = rng.usize(0..open.len());
            (nth, page(&list, open[nth], rng.usize(5..30)))
        });
        let Ok(listing) = outcome else { continue };
        proved += 1;
        for id in still {
            let key = Key::Id(id.try_into().unwrap());
            assert!(listing.elements.contains_key(&key), "{id}, seed {seed}");
        }
    }
    assert!(proved > 3500, "{proved}");
}

/// A tie at the end leaves no page of fewer than five rows. After a short page the end is proved all
/// the same; a list of one page is read twice.
#[test]
fn a_list_that_ends_in_a_tie_is_proved() {
    for (rows, requests) in [(50, 6), (250, 4)] {
        let mut list = distinct(rows);
        let oldest = list[rows as usize - 6].created;
        for row in list.iter_mut().rev().take(5) {
            row.created = oldest;
        }
        let proved = pages::read(100, 1, None, |open| (0, page(&list, open[0], 100))).unwrap();
        assert_eq!(proved.elements.len(), list.len());
        assert_eq!(proved.requests, requests, "{rows} rows");
    }
    // Such a page comes at a size that fell, too: to the tie's own, or below it.
    for (limit, cap, from) in [(11, 7, 4), (20, 8, 24)] {
        let mut list = distinct(60);
        let tied = list[from].created;
        for row in list.iter_mut().skip(from).take(limit) {
            row.created = tied;
        }
        let mut answers = 0;
        let proved = pages::read(limit, 1, None, |open| {
            answers += 1;
            let rows = if answers == 1 { limit } else { cap };
            (0, page(&list, open[0], rows))
        });
        assert_eq!(proved.unwrap().elements.len(), list.len(), "{limit}");
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
    for (list, small_from) in [(&burst[..], 2), (drained, 3)] {
        for cap in 5..100 {
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
                    assert!(cap < 20, "pages of {cap}: {error}");
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

/// The page size falls again and again while rows are read that were seen: how far the list was read
/// is what the furthest page says, not the last one.
#[test]
fn a_page_size_that_falls_among_rows_that_were_seen_is_not_the_end() {
    let list = distinct(250);
    let burst: Vec<Row> = (1..=70).map(|id| row(1000 - id, 1000 - id)).collect();
    let longer = [&burst[..], &list].concat();
    let mut answers = 0;
    let proved = pages::read(1000, 1, None, |open| {
        answers += 1;
        let (list, rows) = match answers {
            1 => (&list, 100),
            2 => (&longer, 60),
            _ => (&longer, 40),
        };
        (0, page(list, open[0], rows))
    });
    let listed = proved.unwrap().elements;
    let lost = list
        .iter()
        .filter(|row| !listed.contains_key(&element(row).key));
    assert_eq!(lost.count(), 0);
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

/// Where a page is not in order, its first row says nothing about what lies before it.
#[test]
fn a_page_of_a_list_without_order_does_not_join_by_chance() {
    let list: Vec<Row> = (1..=30).map(|id| row(id, -id % 7)).collect();
    let mut answers = 0;
    let listed = read(10, |offset| {
        answers += 1;
        let left = if answers < 2 { 0 } else { 9 };
        page(&list[left..], offset, 10)
    });
    assert_eq!(listed, Ok(30));
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
