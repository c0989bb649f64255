//! Authenticate: client credentials in, a token out (RFC 6749 section 4.4).

use std::sync::Mutex;

use log::{info, warn};
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::config::UpstreamConfig;
use crate::error::{Result, Stage};
use crate::net::http::{BodyError, Call, Http, HttpError, read_json};

/// An access token. It cannot be printed: its `Debug` is redacted and it has no `Display`.
#[derive(Debug, Clone)]
struct Token(SecretString);

/// The answer of a token endpoint (RFC 6749 section 5.1); `expires_in` is not needed, since a dead
/// token tells itself by a 401.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: SecretString,
    token_type: Option<String>,
}

/// A session with DataPass: sends requests with a token, and renews it once when it died.
#[derive(Debug)]
pub struct Session {
    http: Http,
    upstream: UpstreamConfig,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    token: Token,
    renewed: bool,
}

impl Session {
    /// Fetches the first token.
    pub fn open(http: Http, upstream: UpstreamConfig) -> Result<Self> {
        let token = fetch_token(&http, &upstream)?;
        Ok(Self {
            http,
            upstream,
            current: Mutex::new(Current {
                token,
                renewed: false,
            }),
        })
    }

    /// Returns where this session leads.
    pub fn upstream(&self) -> &UpstreamConfig {
        &self.upstream
    }

    /// Sends a GET with the token, renewing it once a session when the answer says that it died.
    ///
    /// That answer is 401; when `listed` it is 422 too, which DataPass gives for a revoked token
    /// as well as for one without the scope: a token that listed before had the scope. `page` is
    /// for the log.
    pub fn get<T>(
        &self,
        name: &str,
        page: Option<u64>,
        listed: bool,
        build: &dyn Fn(&Client) -> RequestBuilder,
        read: &mut dyn FnMut(
            &mut dyn std::io::Read,
            crate::net::http::Meta,
        ) -> Result<T, BodyError>,
    ) -> Result<T, HttpError> {
        let (token, renewed) = self.token();
        let error = match self.send(name, page, &token, build, read) {
            Err(error) => error,
            answer => return answer,
        };
        let died = match error.status {
            Some(StatusCode::UNAUTHORIZED) => true,
            Some(StatusCode::UNPROCESSABLE_ENTITY) => listed,
            _ => false,
        };
        if !died || renewed {
            return Err(error);
        }
        let token = self.renew()?;
        self.send(name, page, &token, build, read)
    }

    fn send<T>(
        &self,
        name: &str,
        page: Option<u64>,
        token: &Token,
        build: &dyn Fn(&Client) -> RequestBuilder,
        read: &mut dyn FnMut(
            &mut dyn std::io::Read,
            crate::net::http::Meta,
        ) -> Result<T, BodyError>,
    ) -> Result<T, HttpError> {
        let build = |client: &Client| build(client).bearer_auth(token.0.expose_secret());
        self.http.send(
            &Call {
                stage: Stage::List,
                name,
                page,
                build: &build,
            },
            read,
        )
    }

    fn token(&self) -> (Token, bool) {
        let current = self
            .current
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        (current.token.clone(), current.renewed)
    }

    /// Fetches a fresh token, unless another request in flight did so already.
    fn renew(&self) -> Result<Token, HttpError> {
        let mut current = self
            .current
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if !current.renewed {
            warn!(stage = Stage::Authenticate.as_str(); "The token died; fetching a fresh one");
            current.token = fetch_token(&self.http, &self.upstream)?;
            current.renewed = true;
        }
        Ok(current.token.clone())
    }
}

fn fetch_token(http: &Http, upstream: &UpstreamConfig) -> Result<Token, HttpError> {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &upstream.client_id),
        ("client_secret", upstream.client_secret.expose_secret()),
    ];
    let name = format!("POST {}", upstream.auth_url.path());
    let build = |client: &Client| client.post(upstream.auth_url.clone()).form(&form);
    let call = Call {
        stage: Stage::Authenticate,
        name: &name,
        page: None,
        build: &build,
    };
    let token = http.send(&call, &mut |body, _| {
        let answer: TokenAnswer =
            read_json(body, "the token endpoint's answer has no access_token")?;
        usable(answer)
    })?;
    info!(stage = Stage::Authenticate.as_str(); "Authenticated");
    Ok(token)
}

/// Takes only a bearer token that can stand in a header (RFC 6750 section 2.1).
fn usable(answer: TokenAnswer) -> Result<Token, BodyError> {
    if answer
        .token_type
        .is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer"))
    {
        return Err(BodyError::WrongShape(
            "the token endpoint gave a token that is no bearer token",
        ));
    }
    let text = answer.access_token.expose_secret();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BodyError::WrongShape(
            "the token endpoint gave an empty or malformed token",
        ));
    }
    Ok(Token(answer.access_token))
}
