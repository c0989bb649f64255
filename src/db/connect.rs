//! Connecting to the first server that answers, within a time limit, as `sslmode` demands.
//!
//! PostgreSQL's documentation, sections 34.1.1.3 (several hosts) and 34.19.1 (`sslmode`). What
//! differs: names are looked for in a certificate's subject alternative names alone, not in its
//! common name; client certificates and revocation lists are not supported; certificates of version
//! 1, with RSASSA-PSS or on P-521 cannot be verified.

use std::fmt::Display;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Once;
use std::time::{Duration, Instant};

use postgres::config::SslMode;
use postgres::error::SqlState;
use postgres::{Client, Config, NoTls};
use rustls::ClientConfig;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::db::sqlstate;
use crate::db::url::{DatabaseUrl, Server, TlsMode};
use crate::error::{Exit, Failure, Reason, Stage};
use crate::process::panics;
use crate::process::supervise::Work;

/// How long one address may take, login included, unless `connect_timeout` sets it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the first server that answers, within `remaining`.
///
/// As in libpq the next one is tried when one cannot be reached; one that refuses login,
/// certificate or TLS ends it. The driver would go on from any of these to the next host, and it has
/// no limit for a server that accepts a connection and then is silent. Failures are of the stage
/// `prepare`.
pub fn connect(url: &DatabaseUrl, remaining: Duration) -> Result<Client, Failure> {
    // The driver would panic where it cannot build its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    drop(runtime.map_err(Failure::no_thread)?);
    let end = Instant::now() + remaining;
    let mut failures: Vec<Failure> = Vec::new();
    for server in &url.servers {
        let peer = Peer { url, server, end };
        for address in peer.resolve() {
            match address.and_then(|address| peer.connect(address)) {
                Ok(client) => {
                    warn_if_unverified(url.tls, server);
                    return Ok(client);
                }
                Err(failure) if failure.exit() == Exit::Permanent => return Err(failure),
                Err(failure) => failures.push(failure),
            }
        }
    }
    let reason = failures.last().map_or(Reason::DatabaseUnavailable, |last| last.reason);
    let mut messages: Vec<String> = failures.into_iter().map(|it| it.message).collect();
    messages.dedup();
    Err(Failure::new(Stage::Prepare, reason, messages.join("; ")))
}

/// A server, and until when it may be tried.
struct Peer<'a> {
    url: &'a DatabaseUrl,
    server: &'a Server,
    end: Instant,
}

impl Peer<'_> {
    /// Returns the addresses of the server; none for the path of a socket.
    fn resolve(&self) -> Vec<Result<Option<IpAddr>, Failure>> {
        let Server { host, address, port } = self.server.clone();
        if address.is_some() || self.server.is_socket() {
            return vec![Ok(address)];
        }
        match self.within(move || (host, port).to_socket_addrs()) {
            Ok(Ok(found)) => found.map(|address| Ok(Some(address.ip()))).collect(),
            Ok(Err(error)) => vec![Err(self.failure(Reason::DatabaseUnavailable, error))],
            Err(failure) => vec![Err(failure)],
        }
    }

    /// Connects to one address of the server.
    fn connect(&self, address: Option<IpAddr>) -> Result<Client, Failure> {
        let mut config = self.url.config.clone();
        config.host(&self.server.host).port(self.server.port);
        if let Some(address) = address {
            config.hostaddr(address);
        }
        let tls = self.url.client_config.clone().filter(|_| !self.server.is_socket());
        self.within(move || open(config, tls))?.map_err(|error| {
            let what = format!("connect to PostgreSQL at {}", self.server);
            sqlstate::failure(Stage::Prepare, &what, None, &error)
        })
    }

    /// Runs one step in a thread of its own, for as long as `connect_timeout` and the end allow. A
    /// result that comes too late is dropped with its thread.
    fn within<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let own = self.url.config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        let left = self.end.saturating_duration_since(Instant::now());
        let step = Work::start("connect", step)?;
        match step.wait(Instant::now() + own.min(left)) {
            Some(result) => result.map_err(|_| panics::failure(Stage::Prepare)),
            None if left < own => Err(self.failure(Reason::Deadline, "deadline exceeded")),
            None => {
                let why = format!("no answer within {} s", own.as_secs_f32());
                Err(self.failure(Reason::DatabaseUnavailable, why))
            }
        }
    }

    fn failure(&self, reason: Reason, why: impl Display) -> Failure {
        let message = format!("Cannot connect to PostgreSQL at {}: {why}", self.server);
        Failure::new(Stage::Prepare, reason, message)
    }
}

fn open(mut config: Config, tls: Option<ClientConfig>) -> Result<Client, postgres::Error> {
    let Some(tls) = tls else {
        return config.ssl_mode(SslMode::Disable).connect(NoTls);
    };
    config.connect(MakeRustlsConnect::new(tls)).or_else(|error| {
        // `prefer` falls back once: after a failed handshake, or for a pg_hba.conf that refuses TLS.
        let is_refused = sqlstate::is_handshake(&error)
            || error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
        match config.get_ssl_mode() {
            SslMode::Prefer if is_refused => open(config, None),
            _ => Err(error),
        }
    })
}

/// Warns, once per process, that a third party on the network could read or answer.
fn warn_if_unverified(tls: TlsMode, server: &Server) {
    static ONCE: Once = Once::new();
    let is_verified = matches!(tls, TlsMode::VerifyCa | TlsMode::VerifyFull);
    if !is_verified && !server.is_local() {
        ONCE.call_once(|| {
            log::warn!(
                "The identity of the database server {server} is not verified (sslmode={tls}); set \
                 sslmode=verify-full and sslrootcert in DATABASE_URL"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::db::url;

    #[test]
    fn a_connection_to_a_silent_server_times_out() {
        // The kernel accepts the connection, but no response is sent.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = format!("postgres://me@127.0.0.1:{port}");
        for mode in ["disable", "prefer", "require"] {
            let url = url::parse(&format!("{text}?sslmode={mode}")).unwrap();
            let failure = connect(&url, Duration::from_millis(50)).err().unwrap();
            assert_eq!(failure.reason, Reason::Deadline, "{mode}");

            let url = url::parse(&format!("{text}?sslmode={mode}&connect_timeout=1")).unwrap();
            let failure = connect(&url, Duration::from_secs(60)).err().unwrap();
            assert_eq!(failure.reason, Reason::DatabaseUnavailable, "{mode}");
            assert!(failure.message.contains("no answer within 1 s"), "{}", failure.message);
        }
        let url = url::parse(&text).unwrap();
        let failure = connect(&url, Duration::ZERO).err().unwrap();
        assert_eq!(failure.reason, Reason::Deadline);
    }

    #[test]
    fn an_unknown_host_name_is_transient_and_named() {
        let url = url::parse("postgres://me@host.invalid").unwrap();
        let failure = connect(&url, Duration::from_secs(60)).err().unwrap();
        assert_eq!(failure.reason, Reason::DatabaseUnavailable);
        assert!(failure.message.contains("host.invalid:5432"), "{}", failure.message);
    }
}
