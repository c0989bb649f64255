//! Reads a list with the real paging, as the fetcher does, from the responses of a test.

use std::collections::{HashMap, VecDeque};

use datapass_pull::cycle::list::paging::{Paging, Unproved};
use datapass_pull::types::entry::{Element, Key};

/// A listing that was proved.
pub struct Proved {
    pub elements: HashMap<Key, Element>,
    /// The number of pages requested, discarded ones included.
    pub requests: usize,
    /// The number of steps back.
    pub drift_rewinds: u64,
}

/// Reads a list. `respond` gets the offsets of the open requests; it returns which of them it answers
/// next, with its page.
///
/// Panics if there are more concurrent requests than `concurrency`, plus one in reserve if a length
/// is expected; if the first request is not alone when no length is expected; or if there are too
/// many requests.
pub fn read(
    limit: usize,
    concurrency: usize,
    expected_rows: Option<u64>,
    mut respond: impl FnMut(&[u64]) -> (usize, Vec<Element>),
) -> Result<Proved, Unproved> {
    let mut paging = Paging::new(limit, concurrency, expected_rows);
    let mut in_flight: VecDeque<(u64, Option<Vec<Element>>)> = VecDeque::new();
    let mut elements = HashMap::new();
    let (mut requests, mut largest_page) = (0, 1);
    while !paging.is_complete() {
        while let Some(offset) = paging.ask() {
            requests += 1;
            in_flight.push_back((offset, None));
        }
        let waiting = usize::from(expected_rows.is_some());
        let most = match (requests, expected_rows) {
            (1, None) => 1,
            _ => concurrency + waiting,
        };
        assert!(in_flight.len() <= most, "too many pages in flight");
        while in_flight[0].1.is_none() {
            let mut open: Vec<_> = in_flight.iter_mut().filter(|it| it.1.is_none()).collect();
            let offsets: Vec<u64> = open.iter().map(|(offset, _)| *offset).collect();
            let (nth, page) = respond(&offsets);
            open[nth].1 = Some(page);
        }
        let Some((_, Some(page))) = in_flight.pop_front() else {
            unreachable!("the first one is answered");
        };
        largest_page = page.len().max(largest_page);
        paging.receive(&page)?;
        elements.extend(page.into_iter().map(|it| (it.key.clone(), it)));
        if paging.in_flight() == 0 {
            in_flight.clear();
        }
        let plain = paging.seen() / (largest_page / 2).max(1);
        let bound = 32 + 12 * plain + concurrency;
        assert!(requests <= bound, "{requests} requests, more than {bound}");
    }
    Ok(Proved { elements, requests, drift_rewinds: paging.drift_rewinds })
}
