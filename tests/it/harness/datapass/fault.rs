//! What a test makes the stand-in do to given requests.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use super::http::Answer;
use super::server::Gate;
use super::upstream::Upstream;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Token,
    Listing,
    Definitions,
    Other,
}

/// Which requests are meant: by kind and number, counted from 1 since the rule was set.
#[derive(Debug, Clone, Copy)]
pub struct On {
    endpoint: Option<Endpoint>,
    first: u64,
    last: u64,
}

impl On {
    fn new(endpoint: Option<Endpoint>, numbers: impl RangeBounds<u64>) -> Self {
        let first = match numbers.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 1,
        };
        let last = match numbers.end_bound() {
            Bound::Included(last) => *last,
            Bound::Excluded(after) => after - 1,
            Bound::Unbounded => u64::MAX,
        };
        Self { endpoint, first, last }
    }

    /// Means the request with this number, of any kind.
    pub fn request(number: u64) -> Self {
        Self::new(None, number..=number)
    }

    /// Means every request.
    pub fn everything() -> Self {
        Self::new(None, ..)
    }

    /// Means the listing request with this number.
    pub fn page(number: u64) -> Self {
        Self::pages(number..=number)
    }

    /// Means listing requests: `2..`, `..=3`, `..`.
    pub fn pages(numbers: impl RangeBounds<u64>) -> Self {
        Self::new(Some(Endpoint::Listing), numbers)
    }

    /// Means the token request with this number.
    pub fn token(number: u64) -> Self {
        Self::tokens(number..=number)
    }

    /// Means token requests.
    pub fn tokens(numbers: impl RangeBounds<u64>) -> Self {
        Self::new(Some(Endpoint::Token), numbers)
    }

    /// Means requests for `/definitions`.
    pub fn definitions(numbers: impl RangeBounds<u64>) -> Self {
        Self::new(Some(Endpoint::Definitions), numbers)
    }

    /// Tells whether a request is meant; `number` counts within the kind, or all when none is set.
    pub(super) fn means(&self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// Returns the kind, when only one is meant.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint
    }
}

/// A way to misbehave.
#[derive(Clone)]
pub enum Fault {
    /// An error of the API with this status, in French, and these headers.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// This answer instead: status, content type, body.
    Answer(u16, &'static str, Vec<u8>),
    /// The right answer, changed.
    Edit(Arc<dyn Fn(&mut Answer) + Send + Sync>),
    /// The right answer, so much later.
    Delay(Duration),
    /// The connection is cut without an answer.
    CutBeforeAnswer,
    /// The connection is cut after so many bytes of the body; the length promised is right.
    CutBody(usize),
    /// The body is whole, but a `Content-Length` larger by so much is promised; then a cut.
    WrongLength(usize),
    /// The body comes so many bytes at a time, with a pause after each.
    Drip(usize, Duration),
    /// The head and so many bytes of the body come, then nothing; the connection stays.
    Stall(usize),
    /// Nothing ever comes; the connection stays.
    Silence,
    /// These bytes come instead of HTTP, then a cut.
    Nonsense(Vec<u8>),
    /// An array of blanks: so many mebibytes when decoded, a thousandth of it on the wire.
    GzipBomb(u32),
    /// 302 to this address.
    Redirect(String),
    /// The right answer in chunks, with this line in place of the second chunk's size.
    BadChunk(&'static str),
}

impl Fault {
    /// Makes a 200 with an HTML page, as a proxy's.
    pub fn html() -> Self {
        let page = "<!doctype html><title>Maintenance canari</title><p>Revenez plus tard.";
        Self::Answer(200, "text/html; charset=utf-8", page.into())
    }

    /// Makes a 200 with this JSON text.
    pub fn json(text: &str) -> Self {
        Self::Answer(200, "application/json; charset=utf-8", text.into())
    }

    /// Makes a changed answer.
    pub fn edit(change: impl Fn(&mut Answer) + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(change))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Status(status, headers) => return write!(f, "Status({status}, {headers:?})"),
            Self::Answer(status, kind, _) => return write!(f, "Answer({status}, {kind})"),
            Self::Delay(time) => return write!(f, "Delay({time:?})"),
            Self::CutBody(bytes) => return write!(f, "CutBody({bytes})"),
            Self::WrongLength(bytes) => return write!(f, "WrongLength({bytes})"),
            Self::Drip(bytes, pause) => return write!(f, "Drip({bytes}, {pause:?})"),
            Self::Stall(bytes) => return write!(f, "Stall({bytes})"),
            Self::GzipBomb(size) => return write!(f, "GzipBomb({size})"),
            Self::Redirect(target) => return write!(f, "Redirect({target})"),
            Self::BadChunk(line) => return write!(f, "BadChunk({line:?})"),
            Self::Edit(_) => "Edit",
            Self::CutBeforeAnswer => "CutBeforeAnswer",
            Self::Silence => "Silence",
            Self::Nonsense(_) => "Nonsense",
        };
        f.write_str(name)
    }
}

/// What a rule does.
pub(super) enum Action {
    Hook(Box<dyn FnMut(&mut Upstream) + Send>),
    Gate(Gate),
    Fault(Fault),
}
