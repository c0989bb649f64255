//! Fetches pages on threads of its own, several at once.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use log::info;
use reqwest::blocking::Client;

use super::decode::decode;
use super::definitions;
use crate::cycle::authenticate::Session;
use crate::error::{Failure, Reason, Result, Stage};
use crate::net::body::MAX_BODY_BYTES;
use crate::net::http::{Call, Meta};
use crate::types::entry::Element;

/// A page of the listing.
#[derive(Debug)]
pub struct Page {
    /// The rows, in the order served.
    pub elements: Vec<Element>,
    /// What the response had beside its body.
    pub meta: Meta,
}

/// Which page is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// How many pages the cycle asked for, with this one.
    pub number: u64,
    /// How many rows of the list come before it.
    pub offset: u64,
    /// How many rows it should have.
    pub limit: usize,
}

/// Where pages come from: DataPass, or a model of it.
pub trait Source: Send + Sync + 'static {
    /// Returns one page. `is_abandoned` is set when it is not needed any more.
    fn page(&self, ask: Ask, is_abandoned: &AtomicBool) -> Result<Page>;

    /// Returns the failure of an account that does not see the definition, if it does not.
    fn lack_of_access(&self) -> Result<Option<Failure>>;

    /// Waits as before retry number `retry`, counted from 0, and asks on new connections from then on.
    ///
    /// # Errors
    ///
    /// `reason` itself when the deadline leaves no time for the wait.
    fn reconnect(&self, retry: u32, reason: Failure) -> Result<()>;
}

impl Source for Session {
    fn page(&self, ask: Ask, is_abandoned: &AtomicBool) -> Result<Page> {
        let Ask { number, offset, limit } = ask;
        let url = self.upstream.resource("demandes");
        let query = [
            ("state[]", "validated"),
            ("limit", &limit.to_string()),
            ("offset", &offset.to_string()),
        ];
        let build = |client: &Client| client.get(&url).query(&query);
        let call = Call {
            detail: &format!("offset {offset}"),
            page: Some(number),
            is_abandoned: Some(is_abandoned),
            ..Call::new(Stage::List, &build)
        };
        self.send(&call, &mut |body, meta| {
            let begun = Instant::now();
            let mut body = Body { body, bytes: 0, is_abandoned };
            let elements = decode(&mut body, MAX_BODY_BYTES, &self.upstream.definition_id)?;
            let (status, rows, bytes) = (meta.status.as_u16(), elements.len(), body.bytes);
            let duration_ms = (meta.elapsed + begun.elapsed()).as_millis() as u64;
            info!(
                stage = Stage::List.as_str(), page = number, offset = offset, status = status,
                rows = rows, bytes = bytes, duration_ms = duration_ms;
                "Page at offset {offset}: status {status}, {rows} rows, {bytes} bytes, {duration_ms} ms"
            );
            Ok(Page { elements, meta })
        })
    }

    fn lack_of_access(&self) -> Result<Option<Failure>> {
        let visible = definitions::visible(self)?;
        let sees_it = visible.contains(&self.upstream.definition_id);
        Ok((!sees_it).then(|| definitions::no_access(&visible)))
    }

    fn reconnect(&self, retry: u32, reason: Failure) -> Result<()> {
        self.http.reconnect(retry, reason)
    }
}

/// A body that is counted, and not read further when it is not needed any more.
struct Body<'a> {
    body: &'a mut dyn Read,
    bytes: u64,
    is_abandoned: &'a AtomicBool,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_abandoned.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let count = self.body.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

/// Fetches pages, and returns them in the order in which they were asked for.
///
/// There is a thread for each page that may be in flight; what is asked for beyond that waits. The
/// threads are not joined: they hold nothing that must be put back.
pub(super) struct Fetcher {
    source: Arc<dyn Source>,
    concurrency: usize,
    jobs: mpsc::Sender<(Ask, mpsc::Sender<Result<Page>>)>,
    awaited: VecDeque<mpsc::Receiver<Result<Page>>>,
    is_abandoned: Arc<AtomicBool>,
}

impl Fetcher {
    pub(super) fn start(source: Arc<dyn Source>, concurrency: usize) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<(Ask, mpsc::Sender<Result<Page>>)>();
        let queue = Arc::new(Mutex::new(queue));
        let is_abandoned = Arc::new(AtomicBool::new(false));
        for _ in 0..concurrency {
            let (source, queue) = (Arc::clone(&source), Arc::clone(&queue));
            let is_abandoned = Arc::clone(&is_abandoned);
            let fetch = move || {
                while !is_abandoned.load(Ordering::Relaxed)
                    && let Ok(Ok((ask, reply))) = queue.lock().map(|queue| queue.recv())
                {
                    // This fails when the page is not needed any more.
                    let _ = reply.send(source.page(ask, &is_abandoned));
                }
            };
            let thread = thread::Builder::new().name("pages".to_owned()).spawn(fetch);
            thread.map_err(|error| Failure::no_thread(error).at(Stage::List))?;
        }
        Ok(Self { source, concurrency, jobs, awaited: VecDeque::new(), is_abandoned })
    }

    pub(super) fn ask(&mut self, ask: Ask) {
        let (reply, page) = mpsc::channel();
        // That no thread is left shows when the page is awaited.
        let _ = self.jobs.send((ask, reply));
        self.awaited.push_back(page);
    }

    /// Returns the page that was asked for first.
    pub(super) fn next(&mut self) -> Result<Page> {
        let page = self.awaited.pop_front().and_then(|page| page.recv().ok());
        page.unwrap_or_else(|| {
            let message = "A thread that fetches pages ended unexpectedly";
            Err(Failure::new(Stage::List, Reason::Panic, message))
        })
    }

    /// Abandons all pages that are awaited. Their threads are replaced, since a request cannot be
    /// cancelled and the next page must not wait for it.
    pub(super) fn abandon(&mut self) -> Result<()> {
        if !self.awaited.is_empty() {
            *self = Self::start(Arc::clone(&self.source), self.concurrency)?;
        }
        Ok(())
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
    }
}
