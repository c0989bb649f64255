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
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use postgres::Config;
use postgres::config::{SslNegotiation, TargetSessionAttrs};
use secrecy::ExposeSecret;

use crate::config::DatabaseConfig;
use crate::error::{Failure, Reason, Stage};

const DEFAULT_PORT: u16 = 5432;
/// libpq's socket directories: Debian's, then PostgreSQL's own.
const SOCKET_DIRECTORIES: &str = "/var/run/postgresql,/tmp";
/// PostgreSQL's default of two hours outlives every cycle.
const KEEPALIVES_IDLE_SECONDS: u64 = 30;
const KEEPALIVES_INTERVAL_SECONDS: u64 = 10;
const KEEPALIVES_COUNT: u32 = 3;
/// The only guard on our side against a peer that falls silent in mid-statement.
const TCP_USER_TIMEOUT_SECONDS: u64 = 30;

/// Options that the client library takes as they are.
const PASSED: &[&str] = &[
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "sslnegotiation",
    "target_session_attrs",
    "user",
];

/// Options that are handled here.
const HANDLED: &[&str] = &[
    "host",
    "hostaddr",
    "keepalives_count",
    "port",
    "ssl",
    "sslmode",
    "sslrootcert",
    "tcp_user_timeout",
];

/// Options that may be there and mean nothing to us: libpq's own, then those of Rails.
const IGNORED: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "sslcompression",
    "sslsni",
    "adapter",
    "advisory_locks",
    "checkout_timeout",
    "connection_retries",
    "database_tasks",
    "encoding",
    "idle_timeout",
    "insert_returning",
    "keepalive",
    "max_age",
    "max_connections",
    "min_connections",
    "min_messages",
    "pool",
    "pool_jitter",
    "prepared_statements",
    "query_cache",
    "reaping_frequency",
    "reconnect",
    "retry_deadline",
    "statement_limit",
    "timeout",
    "variables",
];

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

impl Address {
    /// Parses the address in the settings.
    pub fn from_config(config: &DatabaseConfig) -> Result<Self, Failure> {
        parse(config.url.expose_secret()).map_err(|error| {
            Failure::new(
                Stage::Prepare,
                Reason::Configuration,
                format!("DATABASE_URL {error}"),
            )
        })
    }
}

/// Parses the text of `DATABASE_URL`.
pub fn parse(text: &str) -> Result<Address, AddressError> {
    let text = text.trim();
    let mut options = Options::default();
    if let Some(rest) = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
    {
        options.read_url(rest)?;
    } else if text.contains('=') && !starts_with_scheme(text) {
        options.read_pairs(text)?;
    } else {
        return Err(AddressError::Form);
    }
    options.into_address()
}

/// Tells `mysql://…?a=b` from `key=value` text that holds `://` in a value.
fn starts_with_scheme(text: &str) -> bool {
    text.find("://")
        .is_some_and(|end| !text[..end].contains(['=', '\'', ' ']))
}

/// Options by name; a later one wins, as in libpq.
#[derive(Default)]
struct Options(Vec<(String, String)>);

impl Options {
    fn set(&mut self, name: &str, value: String) -> Result<(), AddressError> {
        if value.contains('\0') {
            return Err(AddressError::Malformed("holds a NUL character"));
        }
        // Rails writes a hash as `variables[statement_timeout]`.
        let known = name.split('[').next().unwrap_or_default();
        if IGNORED.contains(&known) {
            return Ok(());
        }
        if !PASSED.contains(&name) && !HANDLED.contains(&name) {
            // A badly quoted password can end up here: only what can be nothing else is shown.
            let plain = (2..=40).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            return Err(AddressError::Unsupported(
                if plain {
                    name
                } else {
                    "(its name is not shown)"
                }
                .to_owned(),
            ));
        }
        let (name, value) = match (name, value.as_str()) {
            // The JDBC way of saying it, which libpq takes too.
            ("ssl", "true") => ("sslmode", "require".to_owned()),
            ("ssl", _) => return Err(AddressError::Value("ssl".to_owned())),
            ("keepalives_count", _) => ("keepalives_retries", value),
            _ => (name, value),
        };
        self.0.retain(|(known, _)| known != name);
        // An empty value is libpq's way of leaving the default.
        if !value.is_empty() {
            self.0.push((name.to_owned(), value));
        }
        Ok(())
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(index).1)
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Reads what follows `postgres://`.
    fn read_url(&mut self, text: &str) -> Result<(), AddressError> {
        let mut rest = text;
        if let Some(end) = credentials_end(text) {
            let (user, password) = split_once_or_all(&text[..end], ':');
            self.set("user", decode(user)?)?;
            self.set("password", decode(password.unwrap_or_default())?)?;
            rest = &text[end + 1..];
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        self.read_authority(&rest[..end])?;
        rest = &rest[end..];

        let (path, query) = split_once_or_all(rest, '?');
        let database = path.strip_prefix('/').unwrap_or(path);
        if database.contains('@') {
            return Err(AddressError::Malformed(
                "holds a raw @ after the host: percent-encode user, password and database name",
            ));
        }
        self.set("dbname", decode(database)?)?;
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair
                .split_once('=')
                .ok_or(AddressError::Malformed("holds a query parameter without ="))?;
            self.set(&decode(name)?, decode(value)?)?;
        }
        Ok(())
    }

    /// Reads `host1:port1,[::1]:port2,…`.
    fn read_authority(&mut self, text: &str) -> Result<(), AddressError> {
        const BAD_HOST: AddressError =
            AddressError::Malformed("holds a host that is not understood");
        if text.is_empty() {
            return Ok(());
        }
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for chunk in text.split(',') {
            let (host, port) = match chunk.strip_prefix('[') {
                Some(chunk) => {
                    let (host, rest) = chunk.split_once(']').ok_or(BAD_HOST)?;
                    match rest.strip_prefix(':') {
                        None if !rest.is_empty() => return Err(BAD_HOST),
                        port => (host, port),
                    }
                }
                None => split_once_or_all(chunk, ':'),
            };
            hosts.push(decode(host)?);
            ports.push(decode(port.unwrap_or_default())?);
        }
        // `:5433/db` names a port alone.
        if hosts.iter().any(|host| !host.is_empty()) {
            self.set("host", hosts.join(","))?;
        }
        if ports.iter().any(|port| !port.is_empty()) {
            self.set("port", ports.join(","))?;
        }
        Ok(())
    }

    /// Reads `name=value name='quoted \' value'`.
    fn read_pairs(&mut self, text: &str) -> Result<(), AddressError> {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (name, tail) = rest
                .split_once('=')
                .ok_or(AddressError::Malformed("holds an option without ="))?;
            let name = name.trim_end();
            if name.contains(char::is_whitespace) {
                return Err(AddressError::Malformed(
                    "holds an option without =, or a value with a space that is not quoted",
                ));
            }
            let tail = tail.trim_start();
            let quoted = tail.starts_with('\'');
            let mut chars = tail.char_indices().skip(usize::from(quoted));
            let mut value = String::new();
            let end = loop {
                match chars.next() {
                    None if quoted => {
                        return Err(AddressError::Malformed("holds a quote that is not closed"));
                    }
                    None => break tail.len(),
                    Some((at, '\'')) if quoted => break at + 1,
                    Some((at, char)) if !quoted && char.is_whitespace() => break at,
                    Some((_, '\\')) => value.extend(chars.next().map(|(_, char)| char)),
                    Some((_, char)) => value.push(char),
                }
            };
            self.set(name, value)?;
            rest = tail[end..].trim_start();
        }
        Ok(())
    }

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
        for (name, value) in &self.0 {
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            let pair = format!("{name}='{value}' ");
            if pair.parse::<Config>().is_err() {
                return Err(AddressError::Value(name.clone()));
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

/// Finds the `@` that ends user and password.
///
/// As in libpq it is the first one before any `/`, so that a raw `?` may stand in a password; yet
/// `host?user=me@place` has none.
fn credentials_end(text: &str) -> Option<usize> {
    let end = text
        .find(['@', '/'])
        .filter(|end| text[*end..].starts_with('@'))?;
    let query_starts = text[..end].split_once('?').is_some_and(|(_, query)| {
        query.split_once('=').is_some_and(|(name, _)| {
            PASSED.contains(&name) || HANDLED.contains(&name) || IGNORED.contains(&name)
        })
    });
    (!query_starts).then_some(end)
}

/// Tells whether a text can be a host, so that a misread password is never shown as one.
fn is_host(host: &str) -> bool {
    host.starts_with('/')
        || (!host.is_empty()
            && host
                .chars()
                .all(|char| char.is_alphanumeric() || ['.', '-', '_', ':', '%'].contains(&char)))
}

fn split_once_or_all(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((head, tail)) => (head, Some(tail)),
        None => (text, None),
    }
}

/// Decodes `%41`; a `+` stays one, as in libpq. A lone `%` is refused.
fn decode(text: &str) -> Result<String, AddressError> {
    let bytes = text.as_bytes();
    let lone = |(at, _): (usize, &str)| {
        !bytes
            .get(at + 1..at + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if text.match_indices('%').any(lone) {
        return Err(AddressError::Malformed(
            "holds a % that is not followed by two hexadecimal digits: write it as %25",
        ));
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(AddressError::Malformed("is not UTF-8 when percent-decoded")),
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
