//! `DATABASE_URL`: what libpq takes (URLs, and `key=value` text), split into hosts, the meaning of
//! `sslmode`, and what the client library understands by itself.
//!
//! The rules are those of PostgreSQL's documentation, sections 34.1.1 to 34.1.3. What differs:
//! - several hosts without `target_session_attrs` mean `read-write`, since every command writes;
//! - an address without a host means the local socket in `/var/run/postgresql` or `/tmp`;
//! - environment variables, `.pgpass` and service files are not read;
//! - a raw `@` in the host or in the database's name is refused: it is mostly a password that was
//!   not percent-encoded, and a part of it would be taken for a name that may be shown.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postgres::Config;
use postgres::config::{SslNegotiation, TargetSessionAttrs};

use crate::db::options::Options;

const DEFAULT_PORT: u16 = 5432;
/// libpq's socket directories: Debian's, then PostgreSQL's own.
const SOCKET_DIRECTORIES: &str = "/var/run/postgresql,/tmp";
/// PostgreSQL's default of two hours outlives every cycle.
const KEEPALIVES_IDLE_SECONDS: u64 = 30;
const KEEPALIVES_INTERVAL_SECONDS: u64 = 10;
const KEEPALIVES_COUNT: u32 = 3;
/// The only guard on our side against a peer that falls silent in mid-statement.
const TCP_USER_TIMEOUT_SECONDS: u64 = 30;

/// What is wrong with an address. It never holds a part of the value, but for an option's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither a URL nor `key=value` text.
    #[error("must be a postgres:// or postgresql:// URL, or key=value text")]
    Form,
    /// The text does not follow its form.
    #[error("{0}")]
    Malformed(&'static str),
    /// An option that neither libpq nor Rails has, or that would change what is done.
    #[error("has the option {0}, which is not supported")]
    Unsupported(String),
    /// An option's value is not understood.
    #[error("has a value of option {0} that is not understood")]
    Value(String),
}

/// Where root certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The system's store.
    System,
    /// One PEM file.
    File(PathBuf),
}

/// What is demanded of TLS: `sslmode` and `sslrootcert` together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// None.
    Disable,
    /// When the server can, unverified.
    Prefer,
    /// Always, unverified.
    Require,
    /// Always, the chain verified.
    VerifyCa(Roots),
    /// Always, chain and name verified.
    VerifyFull(Roots),
}

impl Tls {
    /// Returns the file of root certificates that is read.
    pub fn roots_file(&self) -> Option<&Path> {
        match self {
            Self::VerifyCa(Roots::File(path)) | Self::VerifyFull(Roots::File(path)) => Some(path),
            _ => None,
        }
    }
}

/// One place where the server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name, an IP address, or the directory of a socket (with a leading `/`).
    pub host: Option<String>,
    /// The IP address to use instead of looking `host` up.
    pub hostaddr: Option<IpAddr>,
    /// The port; part of the file's name for a socket.
    pub port: u16,
}

impl Endpoint {
    /// Tells whether this is a Unix socket.
    pub fn is_socket(&self) -> bool {
        self.hostaddr.is_none()
            && self
                .host
                .as_deref()
                .is_some_and(|host| host.starts_with('/'))
    }

    /// Tells whether what is sent stays on this machine.
    pub fn is_local(&self) -> bool {
        if let Some(ip) = self.hostaddr {
            return ip.is_loopback();
        }
        let host = self.host.as_deref().unwrap_or_default();
        self.is_socket()
            || host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.hostaddr) {
            (Some(host), _) if host.starts_with('/') => {
                write!(f, "{host}/.s.PGSQL.{}", self.port)
            }
            (Some(host), _) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            (Some(host), _) => write!(f, "{host}:{}", self.port),
            (None, Some(ip)) => write!(f, "{}", std::net::SocketAddr::new(ip, self.port)),
            (None, None) => write!(f, "port {}", self.port),
        }
    }
}

/// A parsed `DATABASE_URL`. Its `Debug` form hides the password.
#[derive(Debug, Clone)]
pub struct Address {
    /// Everything but the hosts and TLS.
    pub config: Config,
    /// The places to try, in order; at least one.
    pub endpoints: Vec<Endpoint>,
    /// What is demanded of TLS.
    pub tls: Tls,
}

/// Parses the text of `DATABASE_URL`.
pub fn parse(text: &str) -> Result<Address, AddressError> {
    Options::read(text)?.into_address()
}

impl Options {
    fn into_address(mut self) -> Result<Address, AddressError> {
        let tls = self.take_tls()?;
        let endpoints = self.take_endpoints()?;
        let tcp_user_timeout = match self.take("tcp_user_timeout") {
            None => Duration::from_secs(TCP_USER_TIMEOUT_SECONDS),
            // libpq counts it in milliseconds, the client library in seconds.
            Some(text) => Duration::from_millis(
                text.parse()
                    .map_err(|_| AddressError::Value("tcp_user_timeout".to_owned()))?,
            ),
        };
        if let Some(attrs) = self.take("target_session_attrs") {
            let attrs = if attrs == "primary" {
                "read-write".to_owned()
            } else {
                attrs
            };
            self.set("target_session_attrs", attrs)?;
        }

        let mut text = String::new();
        for (name, value) in self.iter() {
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            let pair = format!("{name}='{value}' ");
            if pair.parse::<Config>().is_err() {
                return Err(AddressError::Value(name.to_owned()));
            }
            text.push_str(&pair);
        }
        let mut config: Config = text.parse().map_err(|_| AddressError::Form)?;

        if config.get_ssl_negotiation() == SslNegotiation::Direct
            && matches!(tls, Tls::Disable | Tls::Prefer)
        {
            return Err(AddressError::Value("sslnegotiation".to_owned()));
        }
        config.tcp_user_timeout(tcp_user_timeout);
        if !self.has("application_name") {
            config.application_name(concat!("datapass-pull/", env!("CARGO_PKG_VERSION")));
        }
        if !self.has("keepalives_idle") {
            config.keepalives_idle(Duration::from_secs(KEEPALIVES_IDLE_SECONDS));
        }
        if !self.has("keepalives_interval") {
            config.keepalives_interval(Duration::from_secs(KEEPALIVES_INTERVAL_SECONDS));
        }
        if !self.has("keepalives_retries") {
            config.keepalives_retries(KEEPALIVES_COUNT);
        }
        if !self.has("target_session_attrs") && endpoints.len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Ok(Address {
            config,
            endpoints,
            tls,
        })
    }

    /// Section 34.19.1: what each `sslmode` checks, and what `sslrootcert` adds to it.
    fn take_tls(&mut self) -> Result<Tls, AddressError> {
        let roots = match self.take("sslrootcert") {
            None => None,
            // Since a public authority vouches for any name, `system` is only safe with the name.
            Some(text) if text == "system" => {
                return {
                    self.take("sslmode");
                    Ok(Tls::VerifyFull(Roots::System))
                };
            }
            Some(text) => Some(Roots::File(PathBuf::from(text))),
        };
        let mode = self.take("sslmode");
        Ok(match mode.as_deref().unwrap_or("prefer") {
            "disable" => Tls::Disable,
            "allow" | "prefer" => Tls::Prefer,
            "require" => roots.map_or(Tls::Require, Tls::VerifyCa),
            "verify-ca" => Tls::VerifyCa(roots.unwrap_or(Roots::System)),
            "verify-full" => Tls::VerifyFull(roots.unwrap_or(Roots::System)),
            _ => return Err(AddressError::Value("sslmode".to_owned())),
        })
    }

    fn take_endpoints(&mut self) -> Result<Vec<Endpoint>, AddressError> {
        let bad = |name: &str| AddressError::Value(name.to_owned());
        let hostaddrs = match self.take("hostaddr") {
            None => Vec::new(),
            Some(text) => text
                .split(',')
                .map(|ip| ip.parse::<IpAddr>().map_err(|_| bad("hostaddr")))
                .collect::<Result<_, _>>()?,
        };
        let hosts: Vec<String> = match self.take("host") {
            Some(text) => text.split(',').map(str::to_owned).collect(),
            None if hostaddrs.is_empty() => {
                SOCKET_DIRECTORIES.split(',').map(str::to_owned).collect()
            }
            None => Vec::new(),
        };
        if hosts.iter().any(|host| !is_host(host)) {
            return Err(bad("host"));
        }
        let ports = match self.take("port") {
            None => vec![DEFAULT_PORT],
            Some(text) => text
                .split(',')
                .map(|port| match port {
                    "" => Ok(DEFAULT_PORT),
                    port => port.parse::<u16>().map_err(|_| bad("port")),
                })
                .collect::<Result<_, _>>()?,
        };
        let count = hosts.len().max(hostaddrs.len());
        if !hosts.is_empty() && !hostaddrs.is_empty() && hosts.len() != hostaddrs.len() {
            return Err(bad("hostaddr"));
        }
        if (ports.len() != 1 && ports.len() != count) || ports.contains(&0) {
            return Err(bad("port"));
        }
        Ok((0..count)
            .map(|index| Endpoint {
                host: hosts.get(index).cloned(),
                hostaddr: hostaddrs.get(index).copied(),
                port: ports
                    .get(index)
                    .or(ports.first())
                    .copied()
                    .unwrap_or(DEFAULT_PORT),
            })
            .collect())
    }
}

/// Tells whether a text can be a host, so that a misread password is never shown as one.
fn is_host(host: &str) -> bool {
    host.starts_with('/')
        || (!host.is_empty()
            && host
                .chars()
                .all(|char| char.is_alphanumeric() || ['.', '-', '_', ':', '%'].contains(&char)))
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
