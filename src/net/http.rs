//! The one blocking HTTP client: limits, retries, proxies, and what each failure means.
//!
//! A failure names method, path, host, proxy and status, never a query, a header or a piece of a
//! body, since these may hold a secret or personal data. Redirects are not followed: the request
//! carries the client secret or a token.

use std::error::Error as StdError;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::blocking::{Client, Request, RequestBuilder, Response};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, DATE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use tower::util::MapResultLayer;
use url::{Position, Url};

use crate::error::{Failure, Kind, Reason, Result, Stage};
use crate::net::body::{self, BodyError};
use crate::net::proxies::{self, Proxies};
use crate::net::retry::{self, Attempt};
use crate::net::tls;
use crate::process::deadline::{self, Deadline};

/// How long a connection may take to be established.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request may take, its body included: a page of 12 MB on a slow line fits.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long unacknowledged data may wait before the peer counts as gone.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// What to do when a proxy answers 407.
const PROXY_WANTS_CREDENTIALS: &str = "the proxy wants credentials: set them in the proxy \
                                       variable, as in http://USER:PASSWORD@HOST:PORT";

/// What every HTTP client of this program follows.
#[derive(Debug, Clone, Default)]
pub struct HttpSettings {
    /// The proxies.
    pub proxies: Proxies,
    /// A PEM file of root certificates to add.
    pub ca_file: Option<PathBuf>,
}

/// Returns a builder of a client for `targets`, with the proxies and root certificates of the
/// settings. TLS is only set up when it is needed: reading the roots costs more than all the rest
/// of the start.
pub fn client_builder(targets: &[&Url], settings: &HttpSettings) -> Result<reqwest::ClientBuilder> {
    let proxies = &settings.proxies;
    let is_https = |url: &Url| url.scheme() == "https";
    let is_encrypted = |url: &&Url| is_https(url) || proxies.find(url).is_some_and(is_https);
    let tls = match targets.iter().any(is_encrypted) {
        true => tls::http_client_config(settings.ca_file.as_deref())?,
        false => tls::without_roots()?,
    };
    let proxies = proxies.clone();
    // A proxy of the settings also keeps the library from reading the environment itself.
    let proxy = reqwest::Proxy::custom(move |target| proxies.find(target).cloned());
    Ok(reqwest::Client::builder()
        .user_agent(concat!("datapass-pull/", env!("CARGO_PKG_VERSION")))
        .proxy(proxy)
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .timeout(REQUEST_TIMEOUT))
}

/// Why a connection that was made for a check is not used.
#[derive(Debug, thiserror::Error)]
#[error("connected")]
struct Connected;

/// Connects to the host of a URL as a request would, with its proxy and TLS, and sends nothing.
pub fn connect(url: &Url, settings: &HttpSettings, deadline: &Deadline) -> Result<()> {
    type Outcome<T> = std::result::Result<T, Box<dyn StdError + Send + Sync>>;
    fn refuse<T>(connected: Outcome<T>) -> Outcome<T> {
        connected.and_then(|_| Err(Connected.into()))
    }
    let builder = client_builder(&[url], settings)?.connector_layer(MapResultLayer::new(refuse));
    let client = build(builder)?;
    let left = deadline.check(Stage::Prepare)?;
    let answer = client.get(url.clone()).timeout(left.min(REQUEST_TIMEOUT)).send();
    let Err(error) = answer.map_err(reqwest::Error::without_url) else {
        return Ok(());
    };
    if tls::chain(&error).any(|cause| cause.is::<Connected>()) {
        return Ok(());
    }
    let exchange = Exchange {
        stage: Stage::Prepare,
        name: format!("Connection to {}", route(url, &settings.proxies)),
        deadline,
    };
    Err(exchange.no_response(error).failure)
}

/// A POST of which only the status of the response counts.
#[derive(Debug)]
pub struct Post {
    /// Where it goes; its path and query may be secret.
    pub url: Url,
    /// Name and value of its one header.
    pub header: (&'static str, String),
    /// The body.
    pub body: Vec<u8>,
}

/// Sends requests to one host, in order, each once; returns the first failure, which names host and
/// proxy alone.
pub fn post_all(posts: &[Post], settings: &HttpSettings, deadline: &Deadline) -> Result<()> {
    let urls: Vec<&Url> = posts.iter().map(|post| &post.url).collect();
    let client = build(client_builder(&urls, settings)?)?;
    let mut result = Ok(());
    for post in posts {
        let left = deadline.left();
        if left.is_zero() {
            break;
        }
        let (name, value) = &post.header;
        let request = client.post(post.url.clone()).header(*name, value);
        let response = request.body(post.body.clone()).timeout(left).send();
        let (reason, problem) = match response.map_err(reqwest::Error::without_url) {
            Ok(response) if response.status().is_success() => continue,
            Ok(response) => {
                let (reason, _) = status_meaning(response.status(), false);
                (reason, format!("answered {}", response.status().as_u16()))
            }
            Err(error) => classify(&error),
        };
        let route = route(&post.url, &settings.proxies);
        result = result.and_then(|()| {
            let message = format!("{route}: {problem}");
            Err(Failure::new(Stage::Prepare, reason, message))
        });
    }
    result
}

/// A failed request: the failure, and what a caller that knows better may look at.
#[derive(Debug)]
pub struct HttpError {
    /// What to report.
    pub failure: Failure,
    /// The status, when there was a response.
    pub status: Option<StatusCode>,
    /// What the server's `Retry-After` asked for.
    retry_after: Duration,
    /// Whether the same request may be sent again.
    is_retryable: bool,
}

impl HttpError {
    /// Makes an error that is not retried.
    fn last(failure: Failure) -> Self {
        Self { failure, status: None, retry_after: Duration::ZERO, is_retryable: false }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        error.failure
    }
}

/// What the caller wants to know of a response beside its body.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    /// The server's `Date`.
    pub date: Option<DateTime<Utc>>,
    /// From the first byte sent to the headers received.
    pub elapsed: Duration,
    /// The status, which is a success.
    pub status: StatusCode,
}

/// Reads the body of a 2xx response.
pub type ReadBody<'a, T> = dyn FnMut(&mut dyn Read, Meta) -> Result<T, BodyError> + 'a;

/// A request that may be sent several times.
pub struct Call<'a> {
    /// The step that a failure belongs to.
    pub stage: Stage,
    /// What messages show behind method and path; may be empty.
    pub detail: &'a str,
    /// Which page of the listing is asked for, counted from 1.
    pub page: Option<u64>,
    /// Set when the response is not needed any more: then it is not retried.
    pub is_abandoned: Option<&'a AtomicBool>,
    /// Builds the request anew for each attempt.
    pub build: &'a dyn Fn(&Client) -> RequestBuilder,
}

impl Call<'_> {
    fn is_abandoned(&self) -> bool {
        self.is_abandoned.is_some_and(|it| it.load(Ordering::Relaxed))
    }
}

/// The client.
#[derive(Debug)]
pub struct Http {
    client: Client,
    proxies: Proxies,
    deadline: Deadline,
    max_retries: u32,
}

impl Http {
    /// Makes the client for `targets`.
    pub fn new(
        targets: [&Url; 2],
        settings: &HttpSettings,
        deadline: Deadline,
        max_retries: u32,
    ) -> Result<Self> {
        let headers = [
            (ACCEPT, HeaderValue::from_static("application/json")),
            (ACCEPT_ENCODING, HeaderValue::from_static("gzip")),
        ];
        let builder =
            client_builder(&targets, settings)?.default_headers(headers.into_iter().collect());
        Ok(Self {
            client: build(builder)?,
            proxies: settings.proxies.clone(),
            deadline,
            max_retries,
        })
    }

    /// Waits as before retry number `retry`, counted from 0, and returns a client on new connections.
    ///
    /// # Errors
    ///
    /// `reason` itself when the deadline leaves no time for the wait.
    pub fn reconnect(
        &self,
        targets: [&Url; 2],
        settings: &HttpSettings,
        retry: u32,
        reason: Failure,
    ) -> Result<Self> {
        let attempt = Attempt { retries: retry, ..Attempt::default() };
        retry::wait(&self.deadline, attempt, reason)?;
        Self::new(targets, settings, self.deadline.clone(), self.max_retries)
    }

    /// Sends a request until it succeeds, fails for good, or no retry or time is left.
    ///
    /// Only a transient failure is retried, except a 401: the same credentials would get the same
    /// response.
    pub fn send<T>(&self, call: &Call<'_>, read: &mut ReadBody<'_, T>) -> Result<T, HttpError> {
        let mut retries = 0;
        loop {
            let error = match self.try_once(call, read) {
                Err(error)
                    if error.is_retryable && retries < self.max_retries && !call.is_abandoned() =>
                {
                    error
                }
                answer => return answer,
            };
            let attempt = Attempt { retries, page: call.page, retry_after: error.retry_after };
            retry::wait(&self.deadline, attempt, error.failure).map_err(HttpError::last)?;
            if call.is_abandoned() {
                return Err(HttpError::last(deadline::interrupted(call.stage)));
            }
            retries += 1;
        }
    }

    fn try_once<T>(&self, call: &Call<'_>, read: &mut ReadBody<'_, T>) -> Result<T, HttpError> {
        let left = self.deadline.check(call.stage).map_err(HttpError::last)?;
        // The limit of a request covers its body too, unlike the client's own, which is for one read.
        let request = (call.build)(&self.client).timeout(left.min(REQUEST_TIMEOUT));
        let request = request.build().map_err(|error| {
            let failure = Failure::new(call.stage, Reason::Configuration, "Cannot build a request");
            HttpError::last(failure.with_source(error.without_url()))
        })?;
        let exchange = Exchange {
            stage: call.stage,
            name: self.name(&request, call.detail),
            deadline: &self.deadline,
        };
        let begun = Instant::now();
        let response = self.client.execute(request);
        let response = response.map_err(|error| exchange.no_response(error.without_url()))?;
        let meta =
            Meta { date: date_of(&response), elapsed: begun.elapsed(), status: response.status() };
        match response.status() {
            status @ (StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) => {
                let problem = format!(" answered {}, which has no body", status.as_u16());
                Err(exchange.error(Reason::WrongShape, &problem))
            }
            status if status.is_success() => body::decoded(response)
                .and_then(|mut body| read(&mut body, meta))
                .map_err(|error| exchange.unusable_body(error)),
            _ => Err(exchange.refused(response, meta)),
        }
    }

    /// Returns method, path, host and proxy of a request, for messages.
    fn name(&self, request: &Request, detail: &str) -> String {
        let url = request.url();
        let mut name = format!("{} {}", request.method(), url.path());
        if !detail.is_empty() {
            name.push_str(&format!(" ({detail})"));
        }
        name.push_str(&format!(" at {}", route(url, &self.proxies)));
        name
    }
}

fn build(builder: reqwest::ClientBuilder) -> Result<Client> {
    let client = reqwest::blocking::ClientBuilder::from(builder).build();
    client.map_err(|error| {
        // It runs on a thread of its own, and what is set does no I/O.
        if tls::chain(&error).any(|cause| cause.is::<io::Error>()) {
            return Failure::no_thread(Stage::Prepare, error);
        }
        let message = "The HTTP client cannot be set up";
        Failure::new(Stage::Prepare, Reason::Configuration, message).with_source(error)
    })
}

/// Returns host, port and proxy of a URL, for messages.
pub fn route(url: &Url, proxies: &Proxies) -> String {
    let host = &url[Position::BeforeHost..Position::AfterPort];
    through(host.to_owned(), url, proxies)
}

/// Adds the proxy of a URL to what messages show of it.
pub fn through(shown: String, url: &Url, proxies: &Proxies) -> String {
    match proxies.find(url) {
        Some(proxy) => format!("{shown} through the proxy {}", proxies::shown(proxy)),
        None => shown,
    }
}

/// One request that was sent, and what its failures are about.
struct Exchange<'a> {
    stage: Stage,
    /// Method, path, host and proxy.
    name: String,
    deadline: &'a Deadline,
}

impl Exchange<'_> {
    /// Makes an error; `problem` follows the name of the request.
    fn error(&self, reason: Reason, problem: &str) -> HttpError {
        let failure = Failure::new(self.stage, reason, format!("{}{problem}", self.name));
        HttpError { is_retryable: reason.kind() == Kind::Transient, ..HttpError::last(failure) }
    }

    /// Classifies a request without a response.
    fn no_response(&self, error: reqwest::Error) -> HttpError {
        if error.is_timeout() && self.deadline.left().is_zero() {
            return HttpError::last(deadline::exceeded(self.stage));
        }
        let (reason, problem) = classify(&error);
        self.error(reason, &format!(": {problem}"))
    }

    /// Classifies a body of no use.
    fn unusable_body(&self, error: BodyError) -> HttpError {
        let reason = match &error {
            BodyError::NotJson => Reason::BadBody,
            BodyError::WrongShape(_) | BodyError::Coding(_) => Reason::WrongShape,
            BodyError::TooLarge(_) | BodyError::Oversized(_) => Reason::TooLarge,
            BodyError::Io(_) if self.deadline.left().is_zero() => {
                return HttpError::last(deadline::exceeded(self.stage));
            }
            BodyError::Io(error) if body::is_timeout(error) => Reason::Timeout,
            BodyError::Io(_) => Reason::BadBody,
        };
        self.error(reason, &format!(": {error}"))
    }

    /// Classifies a status other than 2xx.
    fn refused(&self, response: Response, meta: Meta) -> HttpError {
        let status = response.status();
        let is_token = self.stage == Stage::Authenticate;
        let (reason, hint) = status_meaning(status, is_token);
        let retry_after = header(&response, RETRY_AFTER)
            .filter(|_| matches!(status.as_u16(), 429 | 503))
            .and_then(|value| retry::retry_after(value, meta.date));
        let mut problem = format!(" answered {}", status.as_u16());
        if status.is_redirection()
            && let Some(host) = header(&response, LOCATION).and_then(host_of)
        {
            problem.push_str(&format!(", to {host}"));
        }
        if let Some(wait) = retry_after {
            problem.push_str(&format!(" (Retry-After: {} s)", wait.as_secs()));
        }
        if is_token && let Some(word) = oauth_error(response) {
            problem.push_str(&format!(" {word}"));
        }
        let error = self.error(reason, &format!("{problem}: {hint}"));
        HttpError {
            status: Some(status),
            retry_after: retry_after.unwrap_or_default(),
            is_retryable: error.is_retryable && status != StatusCode::UNAUTHORIZED,
            ..error
        }
    }
}

/// Classifies the error of a request without a response, and describes it without its URL.
pub fn classify(error: &reqwest::Error) -> (Reason, String) {
    let refusal = tls::certificate_refusal(error);
    let mut cause = root_cause(error);
    let (reason, problem) = if let Some(refusal) = refusal {
        cause = tls::describe_refusal(refusal, "DATAPASS_CA_FILE");
        (Reason::Certificate, "the server's certificate is refused")
    } else if error.is_timeout() {
        (Reason::Timeout, "no response in time")
    } else if tls::is_tls(error) {
        (Reason::Tls, "the TLS handshake failed")
    } else if cause == "tunnel error: proxy authorization required" {
        // The library exports no type for it. It is the proxy's 407 to CONNECT.
        cause = "407".to_owned();
        (Reason::RequestRefused, PROXY_WANTS_CREDENTIALS)
    } else if cause.starts_with("tunnel error: ") {
        (Reason::Connection, "the proxy opened no connection")
    } else {
        (Reason::Connection, "no connection")
    };
    (reason, format!("{problem} ({cause})"))
}

/// Returns what a status other than 2xx means, and what to do.
fn status_meaning(status: StatusCode, is_token: bool) -> (Reason, &'static str) {
    match status.as_u16() {
        401 if is_token => (Reason::Unauthorized, "check DATAPASS_CLIENT_ID and its secret"),
        401 => (Reason::Unauthorized, "the token is not accepted"),
        407 => (Reason::RequestRefused, PROXY_WANTS_CREDENTIALS),
        429 => (Reason::RateLimited, "too many requests"),
        408 | 425 | 500.. => (Reason::ServerError, "the server cannot answer now"),
        300..=399 => (Reason::Redirect, "redirects are not followed; set the final URL"),
        400..=499 if is_token => {
            (Reason::TokenRefused, "check the client, its secret and DATAPASS_AUTH_URL")
        }
        422 => (Reason::RequestRefused, "the account may lack the scope read_authorizations"),
        _ => (Reason::RequestRefused, "check DATAPASS_API_BASE_URL and the account's permissions"),
    }
}

/// Reads the error word of a token endpoint (RFC 6749 section 5.2), if it is one of the RFC's own.
fn oauth_error(response: Response) -> Option<&'static str> {
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
    let mut body = body::decoded(response).ok()?;
    let answer: ErrorAnswer = body::read_json(&mut body, "").ok()?;
    WORDS.into_iter().find(|word| *word == answer.error)
}

fn header(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

fn date_of(response: &Response) -> Option<DateTime<Utc>> {
    let date = httpdate::parse_http_date(header(response, DATE)?);
    date.ok().map(DateTime::from)
}

/// Returns the host of a `Location`; the rest of it may hold anything.
fn host_of(location: &str) -> Option<String> {
    Url::parse(location).ok()?.host_str().map(str::to_owned)
}

/// Returns the innermost cause, the only one that says more than "error sending request".
fn root_cause(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
