//! Concurrent page requests: how many requests the listing of an unchanged list takes, and how many
//! times it waits for responses.

use chrono::{DateTime, TimeDelta, Utc};
use datapass_pull::cycle::list::paging::Paging;
use datapass_pull::types::DemandeId;
use datapass_pull::types::entry::{Element, Key};

/// Lists `rows` rows with `concurrency` responses at a time; returns the numbers of requests and of
/// waits.
fn cost(rows: u64, limit: usize, concurrency: usize, expected: Option<u64>) -> (u64, u64) {
    let element = |nth: u64| Element {
        key: Key::Id(DemandeId::try_from(1 + nth as i64).unwrap()),
        created_at: Some(DateTime::<Utc>::UNIX_EPOCH - TimeDelta::seconds(nth as i64)),
        last_validated_at: Ok(None),
        entry: None,
    };
    let mut paging = Paging::new(limit, concurrency, expected);
    let (mut requests, mut rounds) = (0, 0);
    let mut asked = Vec::new();
    let mut answered = 0;
    while !paging.is_complete() {
        asked.extend(std::iter::from_fn(|| paging.ask()));
        if answered == 0 {
            // One request per thread is sent and answered; the others are still queued.
            answered = asked.len().min(concurrency);
            requests += answered as u64;
            rounds += 1;
        }
        let offset = asked.remove(0);
        answered -= 1;
        let page: Vec<Element> = (offset..rows.min(offset + limit as u64)).map(element).collect();
        paging.receive(&page).unwrap();
        if paging.in_flight() == 0 {
            asked.clear();
            answered = 0;
        }
    }
    assert_eq!(paging.seen() as u64, rows);
    (requests, rounds)
}

#[test]
fn the_pages_of_a_list_of_known_length_are_requested_concurrently_from_the_start() {
    // Ten thousand rows take twelve overlapping pages.
    assert_eq!(cost(10_000, 1000, 1, None), (12, 12));
    assert_eq!(cost(10_000, 1000, 1, Some(10_000)), (12, 12));
    assert_eq!(cost(10_000, 1000, 2, Some(10_000)), (12, 6));
    assert_eq!(cost(10_000, 1000, 4, Some(10_000)), (12, 3));
    assert_eq!(cost(9_700, 1000, 2, Some(9_700)), (11, 6));
    assert_eq!(cost(9_700, 1000, 4, Some(9_700)), (11, 3));
    // Without a length the first page is requested alone, and a page past the end is requested.
    assert_eq!(cost(10_000, 1000, 4, None).1, 5);
    assert_eq!(cost(14, 1000, 4, Some(14)), (2, 1));
    assert_eq!(cost(4, 1000, 4, Some(4)), (1, 1));
    assert_eq!(cost(0, 1000, 4, Some(0)), (1, 1));
}

#[test]
fn a_slightly_wrong_length_costs_one_request() {
    for expected in 9_985..=10_015 {
        let (requests, rounds) = cost(10_000, 1000, 4, Some(expected));
        let more = match expected {
            // The page after the last one still begins before the last row.
            10_000..=10_002 => 0,
            _ => 1,
        };
        assert_eq!((requests, rounds), (12 + more, 3 + more), "{expected}");
    }
}

#[test]
fn a_very_wrong_length_costs_little_more_than_an_unknown_one() {
    for concurrency in 1..=4 {
        let unknown = cost(10_000, 1000, concurrency, None);
        for expected in [0, 14, 1_000, 5_000, 9_000, 11_500, 20_000, u64::MAX] {
            let (requests, rounds) = cost(10_000, 1000, concurrency, Some(expected));
            assert!(
                requests <= unknown.0 + 2 && rounds <= unknown.1 + 1,
                "{concurrency} {expected}: {requests} {rounds}, not {unknown:?}"
            );
        }
    }
}
