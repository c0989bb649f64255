//! The one blocking HTTP client: limits, retries, and what each failure means.
//!
//! A failure names method, path and status, never a query, a header or a piece of a body, since
//! these may hold a secret or a person's data. Redirects are not followed: the request carries the
//! client secret or a token.

use std::error::Error as StdError;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{ACCEPT, DATE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use url::{Host, Url};

use crate::error::{Failure, Kind, Reason, Result, Stage};
use crate::net::retry::{self, Attempt};
use crate::net::tls;
use crate::process::deadline::{self, Budget};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request may take, its body included: a page of 12 MB on a slow line fits.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long unacknowledged data may wait before the peer counts as gone.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// The ceiling of a decoded body: five times the largest page that DataPass serves.
pub const BODY_CEILING_BYTES: u64 = 64 << 20;
/// The ceiling of a small answer: a token, an error, the definitions.
const SMALL_CEILING_BYTES: u64 = 4 << 20;

/// Why a body could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Not JSON, or cut short.
    #[error("the body is no JSON, or is cut short")]
    NotJson,
    /// JSON, but not what was expected.
    #[error("{0}")]
    WrongShape(&'static str),
    /// Larger than this ceiling, in bytes.
    #[error("the body is larger than {} MiB once decoded", .0 >> 20)]
    TooLarge(u64),
    /// The connection failed while the body was read.
    #[error("the connection failed while the body was read")]
    Io(#[from] io::Error),
}

/// A failed request: the failure, and what a caller that knows better may look at.
#[derive(Debug)]
pub struct HttpError {
    /// What to report.
    pub failure: Failure,
    /// The status, when there was an answer.
    pub status: Option<StatusCode>,
    /// What the server's `Retry-After` asked for.
    retry_after: Duration,
    /// Whether the same request may be sent again.
    is_retryable: bool,
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        error.failure
    }
}

/// What the caller wants to know of an answer beside its body.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    /// The server's `Date`.
    pub date: Option<DateTime<Utc>>,
    /// From the first byte sent to the headers received.
    pub elapsed: Duration,
}

/// A request that may be sent several times.
pub struct Call<'a> {
    /// The step that a failure belongs to.
    pub stage: Stage,
    /// Method and path, for messages.
    pub name: &'a str,
    /// Which page of the listing is asked for, counted from 1.
    pub page: Option<u64>,
    /// Builds the request anew for each try.
    pub build: &'a dyn Fn(&Client) -> RequestBuilder,
}

/// The client.
#[derive(Debug)]
pub struct Http {
    /// For other hosts, through the proxy that the environment may name.
    remote: Client,
    /// For this machine: a proxy must never see what is meant for it, the secret would leave it in
    /// clear.
    direct: Client,
    budget: Budget,
    max_retries: u32,
}

impl Http {
    /// Makes the client for `urls`; TLS is only set up when one of them wants it.
    pub fn new(
        urls: [&Url; 2],
        ca_file: Option<&Path>,
        budget: Budget,
        max_retries: u32,
    ) -> Result<Self> {
        let encrypted = urls.iter().any(|url| url.scheme() == "https");
        let tls = if encrypted {
            tls::http_client_config(ca_file)?
        } else {
            // Nothing is verified where nothing is encrypted; reading the roots would cost more
            // than all the rest of the start.
            tls::without_roots()?
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let client = |is_direct: bool| {
            let builder = Client::builder()
                .user_agent(concat!("datapass-pull/", env!("CARGO_PKG_VERSION")))
                .default_headers(headers.clone())
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_user_timeout(TCP_USER_TIMEOUT)
                .timeout(REQUEST_TIMEOUT);
            let builder = match is_direct {
                true => builder.no_proxy(),
                false => builder,
            };
            builder.build().map_err(|error| {
                let error = error.without_url();
                // It runs on a thread of its own, and what is set does no I/O.
                if tls::chain(&error).any(|cause| cause.is::<io::Error>()) {
                    return Failure::no_thread(Stage::Prepare, error);
                }
                let message = "The HTTP client cannot be set up; check the proxy variables";
                Failure::new(Stage::Prepare, Reason::Configuration, message).with_source(error)
            })
        };
        let [first, second] = urls.map(is_loopback);
        let remote = client(first && second)?;
        let direct = match first == second {
            true => remote.clone(),
            false => client(true)?,
        };
        Ok(Self {
            remote,
            direct,
            budget,
            max_retries,
        })
    }

    /// Sends a request until it succeeds, fails for good, or no retry or time is left.
    ///
    /// `read` gets the body of a 2xx response. Only a transient failure is retried, except a 401:
    /// the same credentials would get the same response.
    pub fn send<T>(
        &self,
        call: &Call<'_>,
        read: &mut dyn FnMut(&mut dyn Read, Meta) -> Result<T, BodyError>,
    ) -> Result<T, HttpError> {
        let mut retries = 0;
        loop {
            let error = match self.try_once(call, read) {
                Err(error) if error.is_retryable && retries < self.max_retries => error,
                answer => return answer,
            };
            let attempt = Attempt {
                retries,
                page: call.page,
                retry_after: error.retry_after,
            };
            retry::wait(&self.budget, attempt, error.failure).map_err(HttpError::last)?;
            retries += 1;
        }
    }

    fn try_once<T>(
        &self,
        call: &Call<'_>,
        read: &mut dyn FnMut(&mut dyn Read, Meta) -> Result<T, BodyError>,
    ) -> Result<T, HttpError> {
        let left = self.budget.check(call.stage).map_err(HttpError::last)?;
        let begun = Instant::now();
        // The limit of a request covers its body too, unlike the client's own, which is for one read.
        let request = (call.build)(&self.remote).timeout(left.min(REQUEST_TIMEOUT));
        let answer = request.build().and_then(|request| {
            let client = match is_loopback(request.url()) {
                true => &self.direct,
                false => &self.remote,
            };
            client.execute(request)
        });
        let mut response = answer.map_err(|error| self.connection_error(call, error))?;
        let meta = Meta {
            date: date_of(&response),
            elapsed: begun.elapsed(),
        };
        if !response.status().is_success() {
            return Err(status_error(call, response, meta));
        }
        read(&mut response, meta).map_err(|error| self.body_error(call, error))
    }

    /// Says why there was no answer.
    fn connection_error(&self, call: &Call<'_>, error: reqwest::Error) -> HttpError {
        let error = error.without_url();
        let refusal = tls::certificate_refusal(&error);
        let reason = if refusal.is_some() {
            Reason::Certificate
        } else if error.is_builder() {
            Reason::Configuration
        } else if error.is_timeout() {
            if self.budget.left().is_zero() {
                return HttpError::last(deadline::deadline(call.stage));
            }
            Reason::Timeout
        } else if tls::is_tls(&error) {
            Reason::Tls
        } else {
            Reason::Connection
        };
        let what = match reason {
            Reason::Certificate => "the server's certificate is refused",
            Reason::Configuration => "the request cannot be made",
            Reason::Timeout => "no answer in time",
            Reason::Tls => "the TLS handshake failed",
            _ => "no connection",
        };
        let cause = match refusal {
            Some(refusal) => tls::refusal_told(refusal, "DATAPASS_CA_FILE"),
            None => root_cause(&error),
        };
        HttpError::new(call, reason, format!("{}: {what} ({cause})", call.name))
    }

    /// Says why a body was of no use.
    fn body_error(&self, call: &Call<'_>, error: BodyError) -> HttpError {
        let reason = match &error {
            BodyError::NotJson => Reason::BadBody,
            BodyError::WrongShape(_) => Reason::WrongShape,
            BodyError::TooLarge(_) => Reason::TooLarge,
            BodyError::Io(_) if self.budget.left().is_zero() => {
                return HttpError::last(deadline::deadline(call.stage));
            }
            BodyError::Io(error) if is_timeout(error) => Reason::Timeout,
            BodyError::Io(_) => Reason::BadBody,
        };
        HttpError::new(call, reason, format!("{}: {error}", call.name))
    }
}

impl HttpError {
    fn new(call: &Call<'_>, reason: Reason, message: String) -> Self {
        let failure = Failure::new(call.stage, reason, message);
        Self {
            is_retryable: reason.kind() == Kind::Transient,
            ..Self::last(failure)
        }
    }

    /// Makes an error that is not retried.
    fn last(failure: Failure) -> Self {
        Self {
            failure,
            status: None,
            retry_after: Duration::ZERO,
            is_retryable: false,
        }
    }
}

/// Says what a status other than 2xx means.
fn status_error(call: &Call<'_>, response: Response, meta: Meta) -> HttpError {
    let status = response.status();
    let authenticating = call.stage == Stage::Authenticate;
    let (reason, hint) = match status.as_u16() {
        401 if authenticating => (
            Reason::Unauthorized,
            "check DATAPASS_CLIENT_ID and its secret",
        ),
        401 => (Reason::Unauthorized, "the token is not accepted"),
        429 => (Reason::RateLimited, "too many requests"),
        408 | 425 | 500.. => (Reason::ServerError, "the server cannot answer now"),
        300..=399 => (
            Reason::Redirect,
            "redirects are not followed; set the final URL",
        ),
        400..=499 if authenticating => (
            Reason::TokenRefused,
            "check the client, its secret and DATAPASS_AUTH_URL",
        ),
        422 => (
            Reason::RequestRefused,
            "the account may lack the scope read_authorizations",
        ),
        _ => (
            Reason::RequestRefused,
            "check DATAPASS_API_BASE_URL and the account's rights",
        ),
    };
    let header = |name| {
        response
            .headers()
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let retry_after = header(RETRY_AFTER)
        .filter(|_| matches!(status.as_u16(), 429 | 503))
        .and_then(|value| retry::retry_after(value, meta.date));
    let mut message = format!("{} answered {}", call.name, status.as_u16());
    if let Some(host) = header(LOCATION)
        .and_then(host_of)
        .filter(|_| status.is_redirection())
    {
        message.push_str(&format!(", to {host}"));
    }
    if let Some(wait) = retry_after {
        message.push_str(&format!(" (Retry-After: {} s)", wait.as_secs()));
    }
    if authenticating && let Some(word) = oauth_error(response) {
        message.push_str(&format!(" {word}"));
    }
    let mut error = HttpError::new(call, reason, format!("{message}: {hint}"));
    error.status = Some(status);
    error.retry_after = retry_after.unwrap_or_default();
    error.is_retryable &= status != StatusCode::UNAUTHORIZED;
    error
}

/// Reads the error word of a token endpoint (RFC 6749 section 5.2), if it is one of the RFC's own.
fn oauth_error(mut response: Response) -> Option<&'static str> {
    const WORDS: [&str; 6] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    ];
    #[derive(serde::Deserialize)]
    struct ErrorAnswer {
        error: String,
    }
    let answer: ErrorAnswer = read_json(&mut response, "").ok()?;
    WORDS.into_iter().find(|word| *word == answer.error)
}

/// Reads a small JSON body whole.
///
/// Syntax and shape are told apart: a body that is no JSON may be a passing fault of a proxy, JSON
/// of another shape is another server than expected.
pub fn read_json<T: serde::de::DeserializeOwned>(
    body: &mut dyn Read,
    expected: &'static str,
) -> Result<T, BodyError> {
    let mut bytes = Vec::new();
    body.take(SMALL_CEILING_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SMALL_CEILING_BYTES {
        return Err(BodyError::TooLarge(SMALL_CEILING_BYTES));
    }
    let any: &serde_json::value::RawValue =
        serde_json::from_slice(&bytes).map_err(|_| BodyError::NotJson)?;
    serde_json::from_str(any.get()).map_err(|_| BodyError::WrongShape(expected))
}

/// Tells whether a URL's host is this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn date_of(response: &Response) -> Option<DateTime<Utc>> {
    let date = response.headers().get(DATE)?.to_str().ok()?;
    httpdate::parse_http_date(date).ok().map(DateTime::from)
}

/// Returns the host of a `Location`; the rest of it may hold anything.
fn host_of(location: &str) -> Option<String> {
    Url::parse(location).ok()?.host_str().map(str::to_owned)
}

fn is_timeout(error: &io::Error) -> bool {
    let reqwest_error = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<reqwest::Error>());
    error.kind() == io::ErrorKind::TimedOut || reqwest_error.is_some_and(reqwest::Error::is_timeout)
}

/// Returns the innermost cause, the only one that says more than "error sending request".
fn root_cause(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
