//! Authenticate: client credentials in, an access token out (RFC 6749 section 4.4).

use std::sync::atomic::{AtomicBool, Ordering};

use log::{info, warn};
use reqwest::blocking::Client;
use reqwest::header::CACHE_CONTROL;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::config::UpstreamConfig;
use crate::error::{Detail, Failure, Result, Stage};
use crate::net::body::{BodyError, read_json};
use crate::net::http::{Call, Http, ReadBody};
use crate::process::lock::Lock;

/// The response of a token endpoint (RFC 6749 section 5.1). `expires_in` is not needed: a 401 shows
/// that a token expired.
#[derive(Deserialize)]
struct TokenResponse {
    access_token: SecretString,
    token_type: Option<String>,
}

/// A session with DataPass: sends requests with an access token, and renews it once.
#[derive(Debug)]
pub struct Session {
    pub(super) http: Http,
    /// The settings of the API.
    pub(super) upstream: UpstreamConfig,
    token: Lock<Token>,
    /// Whether a request succeeded, so that the token had the scope.
    has_succeeded: AtomicBool,
}

/// The current token. Its `Debug` is redacted.
#[derive(Debug, Clone)]
struct Token {
    secret: SecretString,
    is_renewed: bool,
}

impl Session {
    /// Fetches the first token.
    pub fn authenticate(http: Http, upstream: UpstreamConfig) -> Result<Self> {
        let token = Token { secret: fetch_token(&http, &upstream)?, is_renewed: false };
        Ok(Self { http, upstream, token: Lock::new(token), has_succeeded: AtomicBool::new(false) })
    }

    /// Sends a request with the token, which is renewed once per session when it has expired.
    pub fn send<T>(&self, call: &Call<'_>, read: &mut ReadBody<'_, T>) -> Result<T> {
        let token = self.token.lock().clone();
        match self.send_with(&token, call, read) {
            Err(error) if !token.is_renewed && self.has_expired(&error) => {
                self.send_with(&self.renew()?, call, read)
            }
            result => {
                self.has_succeeded.fetch_or(result.is_ok(), Ordering::Relaxed);
                result
            }
        }
    }

    fn send_with<T>(
        &self,
        token: &Token,
        call: &Call<'_>,
        read: &mut ReadBody<'_, T>,
    ) -> Result<T> {
        let build = |client: &Client| {
            // A proxy that stores responses would serve a list of another time.
            let request = (call.build)(client).header(CACHE_CONTROL, "no-cache");
            request.bearer_auth(token.secret.expose_secret())
        };
        self.http.send(&Call { build: &build, ..*call }, read)
    }

    /// Returns whether the token may have expired. A 422 is what DataPass answers to a revoked token
    /// as well as to one without the scope, which a token that was of use before had.
    fn has_expired(&self, error: &Failure) -> bool {
        match error.detail {
            Detail::Response(401, _) => true,
            Detail::Response(422, _) => self.has_succeeded.load(Ordering::Relaxed),
            _ => false,
        }
    }

    /// Fetches a new token, unless another request in flight did so already.
    fn renew(&self) -> Result<Token> {
        let mut token = self.token.lock();
        if !token.is_renewed {
            warn!(stage = Stage::Authenticate.as_str();
                "Access token rejected; requesting a new one");
            token.secret = fetch_token(&self.http, &self.upstream)?;
            token.is_renewed = true;
        }
        Ok(token.clone())
    }
}

fn fetch_token(http: &Http, upstream: &UpstreamConfig) -> Result<SecretString> {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &upstream.client_id),
        ("client_secret", upstream.client_secret.expose_secret()),
    ];
    let build = |client: &Client| client.post(upstream.auth_url.clone()).form(&form);
    let call = Call::new(Stage::Authenticate, &build);
    let token = http.send(&call, &mut |body, _| {
        usable(read_json(body, "the token response has no access_token")?)
    })?;
    info!(stage = Stage::Authenticate.as_str(); "Authenticated");
    Ok(token)
}

/// Accepts only a bearer token that can stand in a header (RFC 6750 section 2.1).
fn usable(response: TokenResponse) -> Result<SecretString, BodyError> {
    let is_bearer = |kind: String| kind.eq_ignore_ascii_case("bearer");
    if !response.token_type.is_none_or(is_bearer) {
        return Err(BodyError::WrongShape("the token is not a bearer token"));
    }
    let text = response.access_token.expose_secret();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BodyError::WrongShape("the token is empty or malformed"));
    }
    Ok(response.access_token)
}
