//! Connecting, with libpq's meaning of `sslmode` and of several hosts.
//!
//! Sections 34.1.1.3 (several hosts) and 34.19.1 (`sslmode`) of PostgreSQL's documentation. What
//! differs: `verify-ca` and `verify-full` without `sslrootcert` take the system's roots instead of
//! `~/.postgresql/root.crt`; names are looked for in a certificate's subject alternative names
//! alone, not in its common name; client certificates and revocation lists are not supported.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Once;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use postgres::config::{LoadBalanceHosts, SslMode, SslNegotiation};
use postgres::{CancelToken, Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::db::address::{Address, Endpoint, Roots, Tls};
use crate::db::sqlstate;
use crate::error::{Failure, Kind, Reason, Stage};
use crate::net::tls::{self, Verification};

/// How long one address may take, login included, unless `connect_timeout` says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the first endpoint that answers, within `remaining`.
///
/// As in libpq the next host is tried when one cannot be reached; one that refuses the login, the
/// certificate or TLS ends it. Failures are of the stage `prepare`.
pub fn connect(address: &Address, remaining: Duration) -> Result<Client, Failure> {
    let deadline = Instant::now() + remaining;
    let connector = connector(address)?;
    let mut endpoints: Vec<&Endpoint> = address.endpoints.iter().collect();
    let random = address.config.get_load_balance_hosts() == LoadBalanceHosts::Random;
    if random {
        fastrand::shuffle(&mut endpoints);
    }

    let mut failures: Vec<Failure> = Vec::new();
    for endpoint in endpoints {
        let mut targets = match look_up(endpoint, deadline) {
            Ok(targets) => targets,
            Err(failure) => {
                failures.push(failure);
                continue;
            }
        };
        if random {
            fastrand::shuffle(&mut targets);
        }
        for target in targets {
            match attempt(address, connector.clone(), endpoint, target, deadline) {
                Ok(client) => {
                    warn_if_unverified(address, endpoint);
                    return Ok(client);
                }
                Err(failure) if failure.kind() == Kind::Permanent => return Err(failure),
                Err(failure) => failures.push(failure),
            }
        }
    }
    Err(all_failed(failures))
}

/// Makes one failure of those of every endpoint.
fn all_failed(failures: Vec<Failure>) -> Failure {
    let reason = failures
        .last()
        .map_or(Reason::DatabaseUnavailable, |failure| failure.reason);
    let mut messages: Vec<String> = failures
        .into_iter()
        .map(|failure| failure.message)
        .collect();
    messages.dedup();
    Failure::new(Stage::Prepare, reason, messages.join("; "))
}

/// Returns how to make a TLS connection; `None` when none is wanted.
fn connector(address: &Address) -> Result<Option<MakeRustlsConnect>, Failure> {
    if address.endpoints.iter().all(Endpoint::is_socket) {
        return Ok(None);
    }
    let store = |roots: &Roots| match roots {
        Roots::System => tls::roots(None),
        Roots::File(path) => tls::file_roots(path),
    };
    let verification = match &address.tls {
        Tls::Disable => return Ok(None),
        Tls::Prefer | Tls::Require => Ok(Verification::None),
        Tls::VerifyCa(roots) => {
            store(roots).map(|roots| Verification::Chain { roots, name: false })
        }
        Tls::VerifyFull(roots) => {
            store(roots).map(|roots| Verification::Chain { roots, name: true })
        }
    };
    let mut config = verification.and_then(tls::client_config).map_err(|error| {
        Failure::new(
            Stage::Prepare,
            Reason::Configuration,
            format!("{error} (to check the certificate of the database's server)"),
        )
    })?;
    if address.config.get_ssl_negotiation() == SslNegotiation::Direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(Some(MakeRustlsConnect::new(config)))
}

/// Asks the server to cancel what a connection is doing. Whether it does is not told.
pub fn cancel(address: &Address, token: &CancelToken) {
    // A failure changes nothing: the connection is about to be closed anyway.
    let _ = match connector(address) {
        Ok(Some(connector)) => token.cancel_query(connector),
        _ => token.cancel_query(NoTls),
    };
}

/// Returns the addresses to try for an endpoint; `None` for the path of a socket.
fn look_up(endpoint: &Endpoint, deadline: Instant) -> Result<Vec<Option<IpAddr>>, Failure> {
    let host = match &endpoint.host {
        _ if endpoint.hostaddr.is_some() => return Ok(vec![endpoint.hostaddr]),
        Some(host) if !endpoint.is_socket() => host.clone(),
        _ => return Ok(vec![None]),
    };
    let port = endpoint.port;
    let limit = deadline.saturating_duration_since(Instant::now());
    let found = within(limit, move || {
        let found = (host.as_str(), port).to_socket_addrs();
        found.map(|found| found.map(|address| Some(address.ip())).collect::<Vec<_>>())
    });
    match found? {
        Some(Ok(targets)) if !targets.is_empty() => Ok(targets),
        Some(Ok(_)) => Err(unavailable(endpoint, "the name has no address")),
        Some(Err(error)) => Err(unavailable(
            endpoint,
            &sqlstate::printable(&error.to_string()),
        )),
        None => Err(too_late(endpoint)),
    }
}

/// Connects to one address of an endpoint.
fn attempt(
    address: &Address,
    connector: Option<MakeRustlsConnect>,
    endpoint: &Endpoint,
    target: Option<IpAddr>,
    deadline: Instant,
) -> Result<Client, Failure> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    let own = address
        .config
        .get_connect_timeout()
        .copied()
        .unwrap_or(CONNECT_TIMEOUT);
    let limit = own.min(remaining);
    if limit.is_zero() {
        return Err(too_late(endpoint));
    }
    let mut config = address.config.clone();
    config.port(endpoint.port).connect_timeout(limit);
    if let Some(host) = &endpoint.host {
        config.host(host);
    }
    if let Some(ip) = target {
        config.hostaddr(ip);
    }
    // The certificate is checked against an address that was given alone, too.
    if let (None, Some(ip)) = (&endpoint.host, target) {
        config.host(&ip.to_string());
    }

    let connector = connector.filter(|_| !endpoint.is_socket());
    let prefer = address.tls == Tls::Prefer;
    match within(limit, move || open(config, connector, prefer))? {
        Some(Ok(client)) => Ok(client),
        Some(Err(error)) => Err(sqlstate::failure(
            Stage::Prepare,
            &format!("connect to PostgreSQL at {endpoint}"),
            &error,
        )),
        None if limit < own => Err(too_late(endpoint)),
        None => Err(unavailable(
            endpoint,
            &format!("no answer within {} s", limit.as_secs_f32()),
        )),
    }
}

fn open(
    mut config: Config,
    connector: Option<MakeRustlsConnect>,
    prefer: bool,
) -> Result<Client, postgres::Error> {
    let Some(connector) = connector else {
        return config.ssl_mode(SslMode::Disable).connect(NoTls);
    };
    if !prefer {
        return config.ssl_mode(SslMode::Require).connect(connector);
    }
    match config.ssl_mode(SslMode::Prefer).connect(connector) {
        // No way in with TLS: a failed handshake, or a pg_hba.conf that wants none.
        Err(error)
            if sqlstate::is_handshake(&error)
                || error.code().is_some_and(|code| code.code() == "28000") =>
        {
            config.ssl_mode(SslMode::Disable).connect(NoTls)
        }
        outcome => outcome,
    }
}

/// Runs a blocking call in a thread of its own and waits no longer than `limit` for it.
///
/// The client library limits the making of the socket alone: a server that accepts and then keeps
/// silent would hold it for ever. What comes too late is dropped by its thread.
fn within<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, Failure> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("connect".to_owned())
        .spawn(move || sender.send(call()))
        .map_err(|error| Failure::no_thread(Stage::Prepare, error))?;
    Ok(receiver.recv_timeout(limit).ok())
}

fn unavailable(endpoint: &Endpoint, why: &str) -> Failure {
    Failure::new(
        Stage::Prepare,
        Reason::DatabaseUnavailable,
        format!("Cannot connect to PostgreSQL at {endpoint}: {why}"),
    )
}

fn too_late(endpoint: &Endpoint) -> Failure {
    Failure::new(
        Stage::Prepare,
        Reason::Deadline,
        format!("The time was over before PostgreSQL at {endpoint} could be reached"),
    )
}

/// Warns, once a run, that somebody on the way may read along or answer in the server's place.
fn warn_if_unverified(address: &Address, endpoint: &Endpoint) {
    static ONCE: Once = Once::new();
    let mode = match address.tls {
        Tls::Disable => "disable",
        Tls::Prefer => "prefer",
        Tls::Require => "require",
        Tls::VerifyCa(_) | Tls::VerifyFull(_) => return,
    };
    if !endpoint.is_local() {
        ONCE.call_once(|| {
            log::warn!(
                "The identity of the database's server {endpoint} is not verified \
                 (sslmode={mode}); set sslmode=verify-full and sslrootcert in DATABASE_URL"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::db::address;

    /// A server that accepts, as the kernel does for it, and never says a word.
    fn silent() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, format!("host=127.0.0.1 port={port} user=me"))
    }

    #[test]
    fn a_silent_server_is_left_in_time() {
        let (_listener, text) = silent();
        for settings in ["sslmode=disable", "sslmode=prefer", "sslmode=require"] {
            let address = address::parse(&format!("{text} {settings}")).unwrap();
            let failure = connect(&address, Duration::from_millis(50)).err().unwrap();
            assert_eq!(failure.reason, Reason::Deadline, "{settings}");

            let address = address::parse(&format!("{text} {settings} connect_timeout=1")).unwrap();
            let failure = connect(&address, Duration::from_secs(60)).err().unwrap();
            assert_eq!(failure.reason, Reason::DatabaseUnavailable, "{settings}");
            assert!(
                failure.message.contains("no answer within 1 s"),
                "{}",
                failure.message
            );
        }
        let address = address::parse(&text).unwrap();
        let failure = connect(&address, Duration::ZERO).err().unwrap();
        assert_eq!(failure.reason, Reason::Deadline);
    }

    #[test]
    fn unknown_names_are_transient_and_told() {
        let address = address::parse("host=host.invalid user=me").unwrap();
        let failure = connect(&address, Duration::from_secs(60)).err().unwrap();
        assert_eq!(failure.reason, Reason::DatabaseUnavailable);
        assert!(
            failure.message.contains("host.invalid:5432"),
            "{}",
            failure.message
        );
    }
}
