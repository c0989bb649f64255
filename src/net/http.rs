//! Requests with retries, and what each failure means.
//!
//! A failure names method, path, host, proxy and status, never a query, a header or a piece of a
//! body, since these may hold a secret or personal data.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, DATE, HeaderName, LOCATION, RETRY_AFTER};
use url::Url;

use crate::error::{Detail, Failure, Reason, Result, Stage};
use crate::net::body::{self, BodyError};
use crate::net::client::{self, HttpSettings, PROXY_REQUIRES_CREDENTIALS, REQUEST_TIMEOUT};
use crate::net::retry;
use crate::process::deadline::{self, Deadline};
use crate::process::lock::Lock;

/// What the caller needs of a response beside its body.
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

impl<'a> Call<'a> {
    /// Makes a call of a small resource, for which a run waits.
    pub fn new(stage: Stage, build: &'a dyn Fn(&Client) -> RequestBuilder) -> Self {
        Self { stage, detail: "", page: None, is_abandoned: None, build }
    }

    /// Fails when the response is not needed any more.
    fn require_wanted(&self) -> Result<()> {
        match self.is_abandoned.is_some_and(|it| it.load(Ordering::Relaxed)) {
            true => Err(deadline::interrupted(self.stage)),
            false => Ok(()),
        }
    }
}

/// The client for some targets.
#[derive(Debug)]
pub struct Http {
    targets: [Url; 2],
    settings: HttpSettings,
    deadline: Deadline,
    max_retries: u32,
    client: Lock<Client>,
}

impl Http {
    /// Makes the client; nothing is contacted yet.
    pub fn new(
        targets: [&Url; 2],
        settings: &HttpSettings,
        deadline: Deadline,
        max_retries: u32,
    ) -> Result<Self> {
        let client = Lock::new(settings.client(&targets)?);
        let (targets, settings) = (targets.map(Url::clone), settings.clone());
        Ok(Self { targets, settings, deadline, max_retries, client })
    }

    /// Waits as before retry number `retry`, counted from 0, and sends on new connections from then
    /// on.
    ///
    /// # Errors
    ///
    /// `reason` itself when the deadline leaves no time for the wait.
    pub fn reconnect(&self, retry: u32, reason: Failure) -> Result<()> {
        retry::wait(&self.deadline, retry, None, reason)?;
        *self.client.lock() = self.settings.client(&self.targets.each_ref())?;
        Ok(())
    }

    /// Sends a request until it succeeds, fails for good, or no retry or time is left.
    ///
    /// Only a transient failure is retried, except a 401: the same credentials would get the same
    /// response.
    pub fn send<T>(&self, call: &Call<'_>, read: &mut ReadBody<'_, T>) -> Result<T> {
        retry::run(&self.deadline, self.max_retries, call.page, || {
            let answer = self.try_once(call, read);
            if answer.is_err() {
                // An abandoned request is no step of the run any more, and what the deadline cuts off
                // is no fault of the server.
                call.require_wanted()?;
                self.deadline.check(call.stage)?;
            }
            answer
        })
    }

    fn try_once<T>(&self, call: &Call<'_>, read: &mut ReadBody<'_, T>) -> Result<T> {
        call.require_wanted()?;
        let left = self.deadline.check(call.stage)?;
        let client = self.client.lock().clone();
        let request = (call.build)(&client)
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "gzip")
            // It covers the body too, unlike the client's own limit, which is for one read.
            .timeout(left.min(REQUEST_TIMEOUT));
        let request = request.build().map_err(|error| {
            let failure = Failure::new(call.stage, Reason::Configuration, "Cannot build a request");
            failure.with_source(error.without_url())
        })?;
        let detail = match call.detail {
            "" => String::new(),
            detail => format!(" ({detail})"),
        };
        let (method, url) = (request.method(), request.url());
        let route = self.settings.proxies.route(url);
        let name = format!("{method} {}{detail} at {route}", url.path());
        let fail =
            |reason, problem: &str| Failure::new(call.stage, reason, format!("{name}{problem}"));
        let begun = Instant::now();
        let response = client.execute(request).map_err(|error| {
            let (reason, problem) = client::classify(error);
            fail(reason, &format!(": {problem}"))
        })?;
        let meta =
            Meta { date: date_of(&response), elapsed: begun.elapsed(), status: response.status() };
        if !meta.status.is_success() || matches!(meta.status.as_u16(), 204 | 205) {
            let (reason, problem, retry_after) = refusal(response, meta, call.stage);
            let detail = Detail::Response(meta.status.as_u16(), retry_after);
            return Err(fail(reason, &problem).with_detail(detail));
        }
        body::decoded(response)
            .and_then(|mut body| read(&mut body, meta))
            .map_err(|error| fail(unusable(&error), &format!(": {error}")))
    }
}

/// Returns why a body is unusable.
fn unusable(error: &BodyError) -> Reason {
    match error {
        BodyError::Io(error) if body::is_timeout(error) => Reason::Timeout,
        BodyError::NotJson | BodyError::Io(_) => Reason::BadBody,
        BodyError::WrongShape(_) | BodyError::Coding(_) => Reason::WrongShape,
        BodyError::TooLarge(_) | BodyError::Oversized(_) => Reason::TooLarge,
    }
}

/// Returns why a response without a usable body was given, what the message adds to the name of its
/// request, and what its `Retry-After` asks for.
fn refusal(response: Response, meta: Meta, stage: Stage) -> (Reason, String, Duration) {
    let status = meta.status.as_u16();
    let (reason, hint) = status_meaning(status, stage);
    let retry_after = header(&response, RETRY_AFTER)
        .filter(|_| matches!(status, 429 | 503))
        .and_then(|value| retry::retry_after(value, meta.date));
    let mut problem = format!(" answered {status}");
    if meta.status.is_redirection()
        && let Some(host) = header(&response, LOCATION).and_then(host_of)
    {
        problem.push_str(&format!(", to {host}"));
    }
    if let Some(wait) = retry_after {
        problem.push_str(&format!(" (Retry-After: {} s)", wait.as_secs()));
    }
    if stage == Stage::Authenticate
        && let Some(word) = oauth_error(response)
    {
        problem.push_str(&format!(" {word}"));
    }
    (reason, format!("{problem}: {hint}"), retry_after.unwrap_or_default())
}

/// Returns what a status without a usable body means, and what to do.
fn status_meaning(status: u16, stage: Stage) -> (Reason, &'static str) {
    let is_token = stage == Stage::Authenticate;
    match status {
        204 | 205 => (Reason::WrongShape, "it has no body"),
        401 if is_token => (Reason::Unauthorized, "check DATAPASS_CLIENT_ID and its secret"),
        401 => (Reason::Unauthorized, "the token is not accepted"),
        407 => (Reason::RequestRefused, PROXY_REQUIRES_CREDENTIALS),
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
    const WORDS: &str = "invalid_request invalid_client invalid_grant unauthorized_client \
                         unsupported_grant_type invalid_scope";
    #[derive(serde::Deserialize)]
    struct ErrorAnswer {
        error: String,
    }
    let mut body = body::decoded(response).ok()?;
    let answer: ErrorAnswer = body::read_json(&mut body, "").ok()?;
    WORDS.split(' ').find(|word| *word == answer.error)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_request_does_not_change_the_step_of_the_run() {
        let (url, deadline) = (Url::parse("http://h.test").unwrap(), Deadline::signal_only());
        let http = Http::new([&url, &url], &HttpSettings::default(), deadline.clone(), 0).unwrap();
        deadline.check(Stage::Create).unwrap();
        let call = Call {
            stage: Stage::List,
            detail: "",
            page: None,
            is_abandoned: Some(&AtomicBool::new(true)),
            build: &|client| client.get(url.clone()),
        };
        let error = http.send(&call, &mut |_, _| Ok(())).unwrap_err();
        assert_eq!(error.reason, Reason::Interrupted);
        assert_eq!(deadline.stage(), Stage::Create);
    }
}
