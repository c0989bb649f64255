//! Connecting to the first server that answers, within a time limit, as `sslmode` demands.
//!
//! PostgreSQL's documentation, sections 34.1.1.3 (several hosts) and 34.19.1 (`sslmode`). What
//! differs: names are looked for in a certificate's subject alternative names alone, not in its
//! common name; client certificates and revocation lists are not supported; certificates of version
//! 1, with RSASSA-PSS or on P-521 cannot be verified.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Once;
use std::time::{Duration, Instant};

use postgres::config::SslMode;
use postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::db::sqlstate;
use crate::db::url::{DatabaseUrl, Server, TlsMode};
use crate::error::{Failure, Kind, Reason, Stage};
use crate::process::panics;
use crate::process::supervise::Work;

/// How long one address may take, login included, unless `connect_timeout` sets it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the first server that answers, within `remaining`.
///
/// As in libpq the next one is tried when one cannot be reached; one that refuses login,
/// certificate or TLS ends it. Failures are of the stage `prepare`.
pub fn connect(url: &DatabaseUrl, remaining: Duration) -> Result<Client, Failure> {
    // The driver would panic where it cannot build its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    drop(runtime.map_err(no_resources)?);
    let end = Instant::now() + remaining;
    let mut failures: Vec<Failure> = Vec::new();
    for server in &url.servers {
        let targets = resolve(server, end).unwrap_or_else(|failure| {
            failures.push(failure);
            Vec::new()
        });
        for target in targets {
            match attempt(url, server, target, end) {
                Ok(client) => {
                    warn_if_unverified(&url.tls, server);
                    return Ok(client);
                }
                Err(failure) if failure.kind() == Kind::Permanent => return Err(failure),
                Err(failure) => failures.push(failure),
            }
        }
    }
    let last = failures.last().map(|failure| failure.reason);
    let mut messages: Vec<String> = failures.into_iter().map(|it| it.message).collect();
    messages.dedup();
    let reason = last.unwrap_or(Reason::DatabaseUnavailable);
    Err(Failure::new(Stage::Prepare, reason, messages.join("; ")))
}

/// Returns the addresses of a server; none for the path of a socket.
fn resolve(server: &Server, end: Instant) -> Result<Vec<Option<IpAddr>>, Failure> {
    if server.address.is_some() || server.is_socket() {
        return Ok(vec![server.address]);
    }
    let (host, port) = (server.host.clone(), server.port);
    let resolved = within(end, move || {
        let found = (host.as_str(), port).to_socket_addrs();
        found.map(|found| found.map(|address| Some(address.ip())).collect::<Vec<_>>())
    });
    match resolved? {
        Some(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Some(Ok(_)) => Err(unavailable(server, "the name has no address")),
        Some(Err(error)) => Err(unavailable(server, &error.to_string())),
        None => Err(too_late(server)),
    }
}

/// Connects to one address of a server.
fn attempt(
    url: &DatabaseUrl,
    server: &Server,
    target: Option<IpAddr>,
    end: Instant,
) -> Result<Client, Failure> {
    let mut config = url.config.clone();
    let own = config.get_connect_timeout().copied();
    let own = own.unwrap_or(CONNECT_TIMEOUT);
    let limit = own.min(end.saturating_duration_since(Instant::now()));
    if limit.is_zero() {
        return Err(too_late(server));
    }
    config.host(&server.host).port(server.port).connect_timeout(limit);
    if let Some(address) = target {
        config.hostaddr(address);
    }
    let tls = url.client_config.as_ref().filter(|_| !server.is_socket());
    let tls = tls.map(|tls| MakeRustlsConnect::new(tls.clone()));
    config.ssl_mode(match (&tls, &url.tls) {
        (None, _) => SslMode::Disable,
        (_, TlsMode::Prefer) => SslMode::Prefer,
        _ => SslMode::Require,
    });
    match within(Instant::now() + limit, move || open(config, tls))? {
        Some(Ok(client)) => Ok(client),
        Some(Err(error)) => {
            let what = format!("connect to PostgreSQL at {server}");
            Err(sqlstate::failure(Stage::Prepare, &what, &error))
        }
        None if limit < own => Err(too_late(server)),
        None => {
            let why = format!("no answer within {} s", limit.as_secs_f32());
            Err(unavailable(server, &why))
        }
    }
}

fn open(mut config: Config, tls: Option<MakeRustlsConnect>) -> Result<Client, postgres::Error> {
    let Some(tls) = tls else {
        return config.connect(NoTls);
    };
    match config.connect(tls) {
        // `prefer` falls back once: after a failed handshake, or for a pg_hba.conf that refuses TLS.
        Err(error)
            if config.get_ssl_mode() == SslMode::Prefer
                && (sqlstate::is_handshake(&error)
                    || error.code().is_some_and(|it| it.code() == "28000")) =>
        {
            config.ssl_mode(SslMode::Disable).connect(NoTls)
        }
        outcome => outcome,
    }
}

/// Runs a blocking call in a thread of its own, and waits for it no longer than until `end`.
///
/// The driver limits the socket's connection alone: a server that accepts and then is silent would
/// block for ever. A result that comes too late is dropped with its thread.
fn within<T: Send + 'static>(
    end: Instant,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, Failure> {
    let call = Work::start("connect", call).map_err(no_resources)?;
    let result = call.wait(end).transpose();
    result.map_err(|_| panics::failure(Stage::Prepare))
}

fn no_resources(error: io::Error) -> Failure {
    Failure::no_thread(Stage::Prepare, error)
}

fn unavailable(server: &Server, why: &str) -> Failure {
    Failure::new(
        Stage::Prepare,
        Reason::DatabaseUnavailable,
        format!("Cannot connect to PostgreSQL at {server}: {why}"),
    )
}

fn too_late(server: &Server) -> Failure {
    Failure::new(
        Stage::Prepare,
        Reason::Deadline,
        format!("Deadline exceeded before PostgreSQL at {server} could be reached"),
    )
}

/// Warns, once per process, that a third party on the network could read or answer.
fn warn_if_unverified(tls: &TlsMode, server: &Server) {
    static ONCE: Once = Once::new();
    let mode = match tls {
        TlsMode::Disable => "disable",
        TlsMode::Prefer => "prefer",
        TlsMode::Require => "require",
        TlsMode::VerifyCa(_) | TlsMode::VerifyFull(_) => return,
    };
    if !server.is_local() {
        ONCE.call_once(|| {
            log::warn!(
                "The identity of the database server {server} is not verified (sslmode={mode}); \
                 set sslmode=verify-full and sslrootcert in DATABASE_URL"
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
    fn a_silent_server_is_abandoned_in_time() {
        // The kernel accepts for it, and nothing ever answers.
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
    fn an_unknown_name_is_transient_and_shown() {
        let url = url::parse("postgres://me@host.invalid").unwrap();
        let failure = connect(&url, Duration::from_secs(60)).err().unwrap();
        assert_eq!(failure.reason, Reason::DatabaseUnavailable);
        assert!(failure.message.contains("host.invalid:5432"), "{}", failure.message);
    }
}
