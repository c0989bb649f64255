//! What a test makes the fake DataPass do at given requests.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use super::http::Response;
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

/// A selection of requests: by kind and number, counted from 1 since the rule was set.
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

    /// Selects the request with this number, of any kind.
    pub fn request(number: u64) -> Self {
        Self::new(None, number..=number)
    }

    /// Selects every request.
    pub fn everything() -> Self {
        Self::new(None, ..)
    }

    /// Selects the listing request with this number.
    pub fn page(number: u64) -> Self {
        Self::pages(number..=number)
    }

    /// Selects listing requests: `2..`, `..=3`, `..`.
    pub fn pages(numbers: impl RangeBounds<u64>) -> Self {
        Self::new(Some(Endpoint::Listing), numbers)
    }

    /// Selects the token request with this number.
    pub fn token(number: u64) -> Self {
        Self::tokens(number..=number)
    }

    /// Selects token requests.
    pub fn tokens(numbers: impl RangeBounds<u64>) -> Self {
        Self::new(Some(Endpoint::Token), numbers)
    }

    /// Selects requests for `/definitions`.
    pub fn definitions(numbers: impl RangeBounds<u64>) -> Self {
        Self::new(Some(Endpoint::Definitions), numbers)
    }

    /// Returns whether a number is selected; it counts the requests of the kind, or all requests
    /// when no kind is selected.
    pub(super) fn selects(&self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// Returns the kind, when only one is selected.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint
    }
}

/// A way to misbehave.
#[derive(Clone)]
pub enum Fault {
    /// An error of the API with this status, in French, and these headers.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// This response instead: status, content type, body.
    Response(u16, &'static str, Vec<u8>),
    /// The correct response, changed.
    Edit(Arc<dyn Fn(&mut Response) + Send + Sync>),
    /// The correct response, after this delay.
    Delay(Duration),
    /// The connection is closed without a response.
    CloseBeforeResponse,
    /// The connection is closed after this many bytes of the body; `Content-Length` is correct.
    TruncateBody(usize),
    /// The body is complete, but `Content-Length` is larger by this many bytes; then the connection
    /// is closed.
    WrongContentLength(usize),
    /// The body is sent in pieces of this many bytes, with a pause after each.
    SlowBody(usize, Duration),
    /// The head and this many bytes of the body are sent, then nothing; the connection stays open.
    Stall(usize),
    /// Nothing is sent; the connection stays open.
    NoResponse,
    /// These bytes are sent instead of HTTP; then the connection is closed.
    NotHttp(Vec<u8>),
    /// An array of blanks: this many mebibytes when decoded, a thousandth of it when compressed.
    DecompressionBomb(u32),
    /// A 302 redirect to this address.
    Redirect(String),
    /// The correct response in chunks, with this line in place of the second chunk's size.
    InvalidChunkSize(&'static str),
}

impl Fault {
    /// Makes a 200 with an HTML page, like that of a proxy.
    pub fn html() -> Self {
        let page = "<!doctype html><title>Maintenance canari</title><p>Revenez plus tard.";
        Self::Response(200, "text/html; charset=utf-8", page.into())
    }

    /// Makes a 200 with this JSON body.
    pub fn json(text: &str) -> Self {
        Self::Response(200, "application/json; charset=utf-8", text.into())
    }

    /// Makes a change of the correct response.
    pub fn edit(change: impl Fn(&mut Response) + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(change))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Status(status, headers) => return write!(f, "Status({status}, {headers:?})"),
            Self::Response(status, kind, _) => return write!(f, "Response({status}, {kind})"),
            Self::Delay(time) => return write!(f, "Delay({time:?})"),
            Self::TruncateBody(bytes) => return write!(f, "TruncateBody({bytes})"),
            Self::WrongContentLength(bytes) => return write!(f, "WrongContentLength({bytes})"),
            Self::SlowBody(bytes, pause) => return write!(f, "SlowBody({bytes}, {pause:?})"),
            Self::Stall(bytes) => return write!(f, "Stall({bytes})"),
            Self::DecompressionBomb(size) => return write!(f, "DecompressionBomb({size})"),
            Self::Redirect(target) => return write!(f, "Redirect({target})"),
            Self::InvalidChunkSize(line) => return write!(f, "InvalidChunkSize({line:?})"),
            Self::Edit(_) => "Edit",
            Self::CloseBeforeResponse => "CloseBeforeResponse",
            Self::NoResponse => "NoResponse",
            Self::NotHttp(_) => "NotHttp",
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
