//! HTTP clients: what all of them follow, and the requests of which no body is read.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::blocking::{Client, ClientBuilder};
use rustls::RootCertStore;
use tower::util::MapResultLayer;
use url::Url;

use crate::error::{Failure, Reason, Result, Stage};
use crate::net::proxies::Proxies;
use crate::net::tls::{self, NameCheck};
use crate::process::deadline::Deadline;

/// How long a connection may take to be established.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request may take, its body included: a page of 12 MB on a slow line fits.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long unacknowledged data may wait before the peer counts as gone.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// What to do when a proxy answers 407.
pub(super) const PROXY_REQUIRES_CREDENTIALS: &str = "the proxy requires credentials: set them in the \
                                                  proxy variable, as in \
                                                  http://USER:PASSWORD@HOST:PORT";

/// What every HTTP client of this program follows.
#[derive(Debug, Clone, Default)]
pub struct HttpSettings {
    /// The proxies.
    pub proxies: Proxies,
    /// Root certificates beside those of the system.
    pub roots: Option<RootCertStore>,
}

impl HttpSettings {
    /// Makes a client for `targets`; each request sets its own time limit.
    pub fn client(&self, targets: &[&Url]) -> Result<Client> {
        self.builder(targets)?.build().map_err(Failure::no_thread)
    }

    /// Sets a client up; to build it may fail for want of a thread alone.
    fn builder(&self, targets: &[&Url]) -> Result<ClientBuilder> {
        let is_https = |url: &Url| url.scheme() == "https";
        let is_encrypted =
            |url: &&Url| is_https(url) || self.proxies.find(url).is_some_and(is_https);
        // Reading them costs more than all the rest of the start.
        let roots = match targets.iter().any(is_encrypted) {
            true => tls::roots(self.roots.clone())?,
            false => RootCertStore::empty(),
        };
        let mut tls = tls::client_config(Some((roots, NameCheck::Require)));
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let proxies = self.proxies.clone();
        // A proxy of the settings also keeps the library from reading the environment itself.
        let proxy = reqwest::Proxy::custom(move |target| proxies.find(target).cloned());
        Ok(Client::builder()
            .user_agent(concat!("datapass-pull/", env!("CARGO_PKG_VERSION")))
            .proxy(proxy)
            .tls_backend_preconfigured(tls)
            // A request may carry the client secret or a token.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(TCP_USER_TIMEOUT))
    }

    /// Connects to the host of a URL as a request would, with its proxy and TLS, and sends nothing;
    /// returns host and proxy.
    pub fn connect(&self, url: &Url, deadline: &Deadline) -> Result<String> {
        type Outcome<T> = std::result::Result<T, Box<dyn StdError + Send + Sync>>;
        fn refuse<T>(connected: Outcome<T>) -> Outcome<T> {
            connected.and_then(|_| Err(Connected.into()))
        }
        let builder = self.builder(&[url])?.connector_layer(MapResultLayer::new(refuse));
        let client = builder.build().map_err(Failure::no_thread)?;
        let left = deadline.check(Stage::Prepare)?;
        match client.get(url.clone()).timeout(left.min(REQUEST_TIMEOUT)).send() {
            Err(error) if !tls::chain(&error).any(|cause| cause.is::<Connected>()) => {
                // What the deadline cuts off is no fault of the server.
                deadline.check(Stage::Prepare)?;
                let (reason, problem) = classify(error);
                let message = format!("Connection to {}: {problem}", self.proxies.route(url));
                Err(Failure::new(Stage::Prepare, reason, message))
            }
            _ => Ok(self.proxies.route(url)),
        }
    }
}

/// Why a connection that was made for a check is not used.
#[derive(Debug, thiserror::Error)]
#[error("connected")]
struct Connected;

/// Bodies for one URL, each sent once, in order, by a POST of which only the status of the response
/// counts.
pub struct Posts {
    /// What the client follows.
    pub settings: HttpSettings,
    /// Where they go; its path and query may be secret.
    pub url: Url,
    /// Name and value of their one header.
    pub header: (&'static str, String),
    /// The bodies.
    pub bodies: Vec<Vec<u8>>,
}

impl Posts {
    /// Sends all of them; returns the first failure, which names host and proxy alone.
    pub fn send(self, deadline: &Deadline) -> Result<()> {
        let client = self.settings.client(&[&self.url])?;
        let mut result = Ok(());
        for body in self.bodies {
            let request = client.post(self.url.clone()).header(self.header.0, &self.header.1);
            let problem = match request.body(body).timeout(deadline.left()).send() {
                Ok(response) if response.status().is_success() => continue,
                Ok(response) => format!("answered {}", response.status().as_u16()),
                Err(error) => classify(error).1,
            };
            let message = format!("{}: {problem}", self.settings.proxies.route(&self.url));
            result = result.and(Err(Failure::new(Stage::Prepare, Reason::Connection, message)));
        }
        result
    }
}

/// Classifies the error of a request without a response, and describes it without its URL.
pub(super) fn classify(error: reqwest::Error) -> (Reason, String) {
    let error = error.without_url();
    // The innermost cause is the only one that says more than "error sending request".
    let mut cause = tls::chain(&error).last().map(ToString::to_string).unwrap_or_default();
    let refusal = tls::certificate_refusal(&error, "DATAPASS_CA_FILE");
    let (reason, problem) = if let Some(refusal) = refusal {
        cause = refusal;
        (Reason::Certificate, "the server's certificate is refused")
    } else if error.is_timeout() {
        (Reason::Timeout, "no response in time")
    } else if tls::is_tls(&error) {
        (Reason::Tls, "the TLS handshake failed")
    } else if cause == "tunnel error: proxy authorization required" {
        // The library exports no type for it. It is the proxy's 407 to CONNECT.
        cause = "407".to_owned();
        (Reason::RequestRefused, PROXY_REQUIRES_CREDENTIALS)
    } else if cause.starts_with("tunnel error: ") {
        (Reason::Connection, "the proxy opened no connection")
    } else {
        (Reason::Connection, "no connection")
    };
    (reason, format!("{problem} ({cause})"))
}
