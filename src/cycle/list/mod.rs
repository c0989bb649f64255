//! List: pages of DataPass in, one complete listing out.
//!
//! [`paging`] says which page to ask for and when the listing is complete, and proves it; [`decode`]
//! turns a body into elements; this file keeps pages in flight and collects what belongs to the
//! definition.

pub mod decode;
pub mod definitions;
pub mod paging;

use std::collections::{HashMap, VecDeque, hash_map};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use chrono::{DateTime, TimeDelta, Utc};
use log::{debug, info, warn};

use crate::cycle::authenticate::{Resource, Session};
use crate::error::{Failure, Reason, Result, Stage};
use crate::net::body::{BodyError, MAX_BODY_BYTES};
use crate::net::http::Meta;
use crate::types::entry::{Element, Key};
use decode::DecodeError;
use paging::{Paging, Unproved};

/// One page: its elements, and when its server says it was made.
#[derive(Debug)]
pub struct Page {
    /// The rows, in the order served.
    pub elements: Vec<Element>,
    /// What the answer told beside its body.
    pub meta: Meta,
}

/// Which page is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// How many pages this listing asked for, with this one.
    pub number: u64,
    /// How many rows of the list come before it.
    pub offset: u64,
    /// How many rows it should have.
    pub limit: usize,
}

/// Where pages come from: DataPass, or a model of it.
pub trait Source: Send + Sync + 'static {
    /// Returns one page.
    fn page(&self, ask: Ask) -> Result<Page>;
}

/// A complete listing.
#[derive(Debug)]
pub struct Listing {
    /// Every element of the definition, or whose definition cannot be read; each once.
    pub elements: Vec<Element>,
    /// DataPass' clock when the listing began.
    pub clock: DateTime<Utc>,
}

/// How far a listing came, told while it goes on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Pages received.
    pub pages: u64,
    /// Distinct demandes listed.
    pub seen: u64,
    /// Steps back.
    pub drift_rewinds: u64,
}

/// Reads the whole listing, or fails without one.
///
/// `expected_rows` is how many rows it had last time, if that is known.
pub fn list(
    source: Arc<dyn Source>,
    limit: usize,
    concurrency: usize,
    expected_rows: Option<u64>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Listing> {
    let mut paging = Paging::new(limit, concurrency, expected_rows);
    let mut fetcher = Fetcher::start(source, concurrency)?;
    let mut asked = 0;
    let mut elements: Vec<Element> = Vec::new();
    // Where the last one with a key is: an entry may be listed again while it changes.
    let mut places: HashMap<Key, usize> = HashMap::new();
    let mut clock = None;
    let mut pages = 0;
    while !paging.is_complete() {
        while let Some(offset) = paging.ask() {
            asked += 1;
            fetcher.ask(Ask {
                number: asked,
                offset,
                limit,
            });
        }
        let page = fetcher.next()?;
        clock.get_or_insert_with(|| upstream_clock(page.meta));
        pages += 1;
        paging.receive(&page.elements).map_err(unproved)?;
        let ours = page
            .elements
            .into_iter()
            .filter(|element| element.entry.is_some());
        for element in ours {
            match places.entry(element.key.clone()) {
                hash_map::Entry::Occupied(place) => elements[*place.get()] = element,
                hash_map::Entry::Vacant(place) => {
                    place.insert(elements.len());
                    elements.push(element);
                }
            }
        }
        if paging.in_flight() == 0 {
            fetcher.forget();
        }
        let seen = paging.seen() as u64;
        debug!(stage = Stage::List.as_str(), page = pages; "{seen} demandes are listed so far");
        progress(Progress {
            pages,
            seen,
            drift_rewinds: paging.drift_rewinds(),
        });
    }
    if paging.ignores_offset() {
        warn!(stage = Stage::List.as_str();
            "The server does not page: it returned the same rows at every offset. They are fewer than \
             requested, so they are taken as the whole list");
    }
    Ok(Listing {
        elements,
        clock: clock.unwrap_or_else(Utc::now),
    })
}

/// Returns the server's clock when the request began: its `Date` less the time that it took.
///
/// `Date` has whole seconds, cut, so this is never later than the truth.
fn upstream_clock(meta: Meta) -> DateTime<Utc> {
    let elapsed = TimeDelta::from_std(meta.elapsed).unwrap_or_default();
    let date = meta.date.unwrap_or_else(|| {
        warn!(stage = Stage::List.as_str();
            "DataPass sends no Date; this machine's clock bounds the watermark instead");
        Utc::now()
    });
    date - elapsed
}

fn unproved(error: Unproved) -> Failure {
    let reason = match error {
        Unproved::NoPaging => Reason::NoPaging,
        _ => Reason::UnprovedListing,
    };
    Failure::new(
        Stage::List,
        reason,
        format!("The listing is given up: {error}"),
    )
}

/// Fetches pages on threads of its own and hands them out in the order they were asked for.
///
/// There is a thread for each page that may be in flight; what is asked for beyond that waits. The
/// threads are not waited for when a run ends early: they hold nothing that must be put back.
struct Fetcher {
    jobs: mpsc::Sender<Job>,
    awaited: VecDeque<mpsc::Receiver<Result<Page>>>,
    /// Set when nobody waits for the pages asked for until now.
    forgotten: Arc<AtomicBool>,
}

struct Job {
    ask: Ask,
    forgotten: Arc<AtomicBool>,
    reply: mpsc::Sender<Result<Page>>,
}

impl Fetcher {
    fn start(source: Arc<dyn Source>, concurrency: usize) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..concurrency {
            let (source, queue) = (Arc::clone(&source), Arc::clone(&queue));
            let fetch = move || {
                loop {
                    let job = queue.lock().map(|queue| queue.recv());
                    let Ok(Ok(job)) = job else { break };
                    if job.forgotten.load(Ordering::Relaxed) {
                        continue;
                    }
                    // A page that nobody waits for any more is not worth a word.
                    let _ = job.reply.send(source.page(job.ask));
                }
            };
            let fetcher = thread::Builder::new().name("pages".to_owned()).spawn(fetch);
            fetcher.map_err(|error| Failure::no_thread(Stage::List, error))?;
        }
        Ok(Self {
            jobs,
            awaited: VecDeque::new(),
            forgotten: Arc::default(),
        })
    }

    fn ask(&mut self, ask: Ask) {
        let (reply, page) = mpsc::channel();
        // A closed queue shows itself when the page is awaited.
        let _ = self.jobs.send(Job {
            ask,
            forgotten: Arc::clone(&self.forgotten),
            reply,
        });
        self.awaited.push_back(page);
    }

    fn next(&mut self) -> Result<Page> {
        let page = self.awaited.pop_front().and_then(|page| page.recv().ok());
        page.unwrap_or_else(|| {
            Err(Failure::new(
                Stage::List,
                Reason::Panic,
                "The thread that fetches pages died",
            ))
        })
    }

    fn forget(&mut self) {
        self.awaited.clear();
        std::mem::take(&mut self.forgotten).store(true, Ordering::Relaxed);
    }
}

impl Source for Session {
    fn page(&self, ask: Ask) -> Result<Page> {
        let Ask { number, offset, .. } = ask;
        let upstream = self.upstream();
        let query = [
            ("state[]", "validated"),
            ("limit", &ask.limit.to_string()),
            ("offset", &offset.to_string()),
        ];
        let page = self.get(
            &Resource {
                name: "demandes",
                query: &query,
                detail: &format!("offset {offset}"),
                page: Some(number),
            },
            &mut |body, meta| {
                let mut elements = Vec::new();
                decode::decode(
                    body,
                    MAX_BODY_BYTES,
                    &upstream.definition_id,
                    &mut |element| {
                        elements.push(element);
                    },
                )
                .map_err(|error| match error {
                    DecodeError::NotJson => BodyError::NotJson,
                    DecodeError::WrongShape => {
                        BodyError::WrongShape("the listing is no JSON array")
                    }
                    DecodeError::TooLarge => BodyError::TooLarge(MAX_BODY_BYTES),
                    DecodeError::Io(error) => BodyError::Io(error),
                })?;
                Ok(Page { elements, meta })
            },
        )?;
        info!(stage = Stage::List.as_str(), page = number;
            "Page at offset {offset}: {} rows", page.elements.len());
        Ok(page)
    }
}

/// Returns how far this machine's clock is ahead of the server's, cut to seconds.
pub fn clock_offset(meta: Meta) -> Option<TimeDelta> {
    let middle = Utc::now() - TimeDelta::from_std(meta.elapsed / 2).unwrap_or_default();
    meta.date
        .map(|date| TimeDelta::seconds((middle - date).num_seconds()))
}
