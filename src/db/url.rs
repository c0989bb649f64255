//! `DATABASE_URL`: a connection URL of PostgreSQL, parsed once into servers, TLS and the driver's
//! configuration.
//!
//! The rules are those of PostgreSQL's documentation, sections 34.1.1 to 34.1.3 and 34.19.1. What
//! differs:
//! - several hosts without `target_session_attrs` mean `read-write`, since every command may write;
//! - a URL without a host means the local socket in `/var/run/postgresql` or `/tmp`;
//! - `verify-ca` and `verify-full` without `sslrootcert` use the system's root certificates;
//! - environment variables, `.pgpass` and service files are not read;
//! - a raw `@` in the host or in the database's name is refused: it is mostly a password that is not
//!   percent-encoded, and a part of it would be taken for a name that messages show.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::iter;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use postgres::Config;
use postgres::config::{SslMode, SslNegotiation};
use rustls::ClientConfig;
use strum::{Display, EnumString};

use crate::net::tls::{self, NameCheck};

const DEFAULT_PORT: &str = "5432";
/// libpq's socket directories: Debian's, then PostgreSQL's own.
const SOCKET_DIRECTORIES: &str = "/var/run/postgresql,/tmp";
/// Parameters that the URL may override. PostgreSQL's own idle time before a keepalive, two hours, is
/// longer than any cycle.
const DEFAULTS: [(&str, &str); 7] = [
    ("application_name", concat!("datapass-pull/", env!("CARGO_PKG_VERSION"))),
    ("keepalives_idle", "30"),
    ("keepalives_interval", "10"),
    ("keepalives_retries", "3"),
    ("port", DEFAULT_PORT),
    ("sslmode", "prefer"),
    // The only limit on this side for a peer that is silent in mid-statement.
    ("tcp_user_timeout", "30000"),
];

/// Parameters that change nothing here: libpq's, then those of Rails.
const IGNORED: &str = "client_encoding fallback_application_name gssdelegation gssencmode gsslib \
    krbsrvname load_balance_hosts sslcompression sslsni \
    adapter advisory_locks checkout_timeout connection_retries database_tasks encoding idle_timeout \
    insert_returning keepalive max_age max_connections min_connections min_messages pool pool_jitter \
    prepared_statements query_cache reaping_frequency reconnect retry_deadline statement_limit \
    timeout variables";

/// Parameters that are refused by name. Any other unknown name may be a part of a password that is
/// not percent-encoded, and is not shown.
const REFUSED: &str = "passfile replication require_auth requirepeer service ssl_max_protocol_version \
    ssl_min_protocol_version sslcert sslcertmode sslcrl sslcrldir sslkey sslpassword \
    schema_search_path";

const RAW_AT: &str =
    "holds a raw @ after the host: percent-encode user, password and database name";
const ENCODED_COLON: &str =
    "holds an encoded : in the user, and no password: percent-encode each by itself";
const UNKNOWN: &str =
    "has an unknown parameter (its name is not shown: it may be a part of a password)";

/// What is required of TLS; printed as the value of `sslmode` that means it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString)]
#[strum(serialize_all = "kebab-case")]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS when the server offers it, unverified.
    #[strum(to_string = "prefer", serialize = "allow")]
    Prefer,
    /// TLS, unverified.
    Require,
    /// TLS, the certificate chain verified.
    VerifyCa,
    /// TLS, chain and host name verified.
    VerifyFull,
}

/// One server that may be the one to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// A host name, an IP address, or the directory of a socket (with a leading `/`).
    pub host: String,
    /// The IP address to use instead of resolving `host`.
    pub address: Option<IpAddr>,
    /// The port; part of the file's name for a socket.
    pub port: u16,
}

impl Server {
    /// Returns whether this is a Unix socket.
    pub fn is_socket(&self) -> bool {
        self.address.is_none() && self.host.starts_with('/')
    }

    /// Returns whether the connection stays on this machine.
    pub fn is_local(&self) -> bool {
        match self.address.or_else(|| self.host.parse().ok()) {
            Some(address) => address.is_loopback(),
            None => self.is_socket() || self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (host, port) if host.starts_with('/') => write!(f, "{host}/.s.PGSQL.{port}"),
            (host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            (host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// A parsed `DATABASE_URL`. The driver's configuration hides the password in its `Debug`.
#[derive(Debug, Clone)]
pub struct DatabaseUrl {
    /// User, password, database and settings, without a host; for a server that is spoken to in TLS.
    pub config: Config,
    /// The servers to try, in order; at least one.
    pub servers: Vec<Server>,
    /// What is required of TLS.
    pub tls: TlsMode,
    /// How TLS is spoken; none where it is to none of the servers.
    pub client_config: Option<ClientConfig>,
}

impl DatabaseUrl {
    /// Returns all servers, for messages.
    pub fn places(&self) -> String {
        self.servers.iter().map(Server::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// Parses the text of `DATABASE_URL`, and reads the root certificates that it names.
///
/// # Errors
///
/// What is wrong with it, as the end of a sentence. It holds no part of the URL but the name of a
/// known parameter.
pub fn parse(text: &str) -> Result<DatabaseUrl, String> {
    let mut parameters = Parameters::read(text.trim())?;
    let (tls, roots) = parameters.take_tls()?;
    let servers = parameters.take_servers()?;
    if servers.len() > 1 {
        let attributes = parameters.0.entry("target_session_attrs".to_owned());
        attributes.or_insert_with(|| "read-write".to_owned());
    }
    let mut config = parameters.into_config()?;
    // The driver takes libpq's milliseconds for seconds.
    if let Some(limit) = config.get_tcp_user_timeout().copied() {
        config.tcp_user_timeout(Duration::from_millis(limit.as_secs()));
    }
    config.ssl_mode(if tls == TlsMode::Prefer { SslMode::Prefer } else { SslMode::Require });
    let is_direct = config.get_ssl_negotiation() == SslNegotiation::Direct;
    if is_direct && matches!(tls, TlsMode::Disable | TlsMode::Prefer) {
        return Err(invalid("sslnegotiation"));
    }
    if config.get_user().is_none() && whoami::username().is_err() {
        // The default is the process's user, which has no name in many a container.
        return Err("names no user, and the user of this process has no name".to_owned());
    }
    let needs_tls = tls != TlsMode::Disable && !servers.iter().all(Server::is_socket);
    let mut client_config = needs_tls.then(|| client_config(tls, roots)).transpose()?;
    if let Some(client_config) = client_config.as_mut().filter(|_| is_direct) {
        client_config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(DatabaseUrl { config, servers, tls, client_config })
}

/// Returns how TLS is spoken, with the root certificates read: those of a PEM file, or the system's.
fn client_config(mode: TlsMode, roots: Option<String>) -> Result<ClientConfig, String> {
    let name = match mode {
        TlsMode::VerifyFull => NameCheck::Require,
        TlsMode::VerifyCa => NameCheck::Skip,
        _ => return Ok(tls::client_config(None)),
    };
    let roots = match roots {
        Some(file) => tls::file_roots(file.as_ref())
            .map_err(|problem| format!("has an sslrootcert that {problem}"))?,
        None => {
            tls::roots(None).map_err(|failure| format!("needs root certificates: {failure}"))?
        }
    };
    Ok(tls::client_config(Some((roots, name))))
}

/// The parameters of a URL by name; a later one wins, as in libpq.
struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Reads all parts of a URL.
    ///
    /// The driver has a parser of its own for URLs, which takes an `@` in the query for the end of a
    /// password, adds hosts where the query is to replace them, and shows what it does not
    /// understand. It receives `name='value'` instead.
    fn read(text: &str) -> Result<Self, String> {
        let schemes = ["postgres://", "postgresql://"];
        let rest = schemes.iter().find_map(|it| text.strip_prefix(it));
        let rest = rest.ok_or("must be a postgres:// or postgresql:// URL")?;
        let (credentials, rest) = split_credentials(rest);
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let servers = authority.split(',').map(split_server).collect::<Result<Vec<_>, _>>()?;
        let (hosts, ports): (Vec<_>, Vec<_>) = servers.into_iter().unzip();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let database = path.strip_prefix('/').unwrap_or(path);
        if database.contains('@') {
            return Err(RAW_AT.to_owned());
        }
        // With `me%3Apassword` the server would receive both as a user name, and repeat it.
        if !credentials.contains(':') && decode(user)?.contains(':') {
            return Err(ENCODED_COLON.to_owned());
        }

        let (hosts, ports) = (hosts.join(","), ports.join(","));
        let mut pairs = vec![("user", user), ("password", password), ("dbname", database)];
        pairs.extend([("host", hosts.as_str()), ("port", ports.as_str())]);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            pairs.push(pair.split_once('=').ok_or("holds a query parameter without a =")?);
        }
        let defaults = DEFAULTS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut parameters = Self(defaults.into());
        for (name, value) in pairs {
            parameters.set(&decode(name)?, &decode(value)?)?;
        }
        Ok(parameters)
    }

    /// Sets a parameter, unless it is one to ignore. An empty value changes nothing.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let is_in = |list: &str, name| list.split(' ').any(|it| it == name);
        // The driver would stop reading at an empty one.
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_')
        };
        let (name, value) = match (name, value) {
            // Rails writes a hash as `variables[statement_timeout]`.
            _ if is_in(IGNORED, name.split('[').next().unwrap_or_default()) => return Ok(()),
            _ if is_in(REFUSED, name) => {
                return Err(format!("has the parameter {name}, which is not supported"));
            }
            // JDBC's way, which libpq accepts too.
            ("ssl", "true") => ("sslmode", "require"),
            ("ssl", _) => return Err(invalid("ssl")),
            ("keepalives_count", value) => ("keepalives_retries", value),
            ("target_session_attrs", "primary") => ("target_session_attrs", "read-write"),
            pair if is_name(name) => pair,
            _ => return Err(UNKNOWN.to_owned()),
        };
        if !value.is_empty() {
            self.0.insert(name.to_owned(), value.to_owned());
        }
        Ok(())
    }

    /// Takes what is required of TLS, and the file of root certificates.
    fn take_tls(&mut self) -> Result<(TlsMode, Option<String>), String> {
        let mode = self.0.remove("sslmode").unwrap_or_default();
        let mode = mode.parse().map_err(|_| invalid("sslmode"))?;
        let roots = self.0.remove("sslrootcert");
        Ok(match (mode, roots.as_deref()) {
            // A public authority signs for any name: a certificate proves nothing without it.
            (_, Some("system")) => (TlsMode::VerifyFull, None),
            (TlsMode::Require, Some(_)) => (TlsMode::VerifyCa, roots),
            _ => (mode, roots),
        })
    }

    /// Takes the servers, whose hosts, addresses and ports are lists.
    fn take_servers(&mut self) -> Result<Vec<Server>, String> {
        // An address without a host is its own name.
        let host = self.0.get("hostaddr").map_or(SOCKET_DIRECTORIES, String::as_str).to_owned();
        self.0.entry("host".to_owned()).or_insert(host);
        let addresses = self.take_list("hostaddr", |address| address.parse().ok())?;
        let hosts = self.take_list("host", |host| is_host(host).then(|| host.to_owned()))?;
        let ports = self.take_list("port", |port| {
            let port = if port.is_empty() { DEFAULT_PORT } else { port };
            port.parse().ok().map(NonZeroU16::get)
        })?;
        if ![0, hosts.len()].contains(&addresses.len()) {
            return Err(invalid("hostaddr"));
        }
        if ![1, hosts.len()].contains(&ports.len()) {
            return Err(invalid("port"));
        }
        let addresses = addresses.into_iter().map(Some).chain(iter::repeat(None));
        let servers = hosts.into_iter().zip(addresses).zip(ports.into_iter().cycle());
        Ok(servers.map(|((host, address), port)| Server { host, address, port }).collect())
    }

    /// Takes a list with commas; empty when there is none.
    fn take_list<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, String> {
        let list = self.0.remove(name);
        let items = list.iter().flat_map(|list| list.split(','));
        items.map(|item| parse(item).ok_or_else(|| invalid(name))).collect()
    }

    /// Gives what is left to the driver.
    fn into_config(self) -> Result<Config, String> {
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        let pairs = self.0.iter().map(|(name, value)| format!("{name}='{}'", quoted(value)));
        pairs.collect::<Vec<_>>().join(" ").parse().map_err(|error: postgres::Error| {
            // The driver names an unknown parameter, or a known one whose value is invalid.
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            let name = cause.strip_prefix("invalid value for option `");
            name.map_or_else(|| UNKNOWN.to_owned(), |name| invalid(name.trim_end_matches('`')))
        })
    }
}

/// Splits user and password from what follows them.
///
/// As in libpq they end at the first `@` before any `/`, so that a raw `?` may be in a password; but
/// the one of `host?user=me@place` is in the query.
fn split_credentials(text: &str) -> (&str, &str) {
    let is_login = |pair: &str| pair.starts_with("user=") || pair.starts_with("password=");
    let has_login =
        |text: &str| text.split_once('?').is_some_and(|it| it.1.split('&').any(is_login));
    match text.split_once('@') {
        Some(parts) if !parts.0.contains('/') && !has_login(parts.0) => parts,
        _ => ("", text),
    }
}

/// Splits `host:port` or `[::1]:port`, either without a port too.
fn split_server(text: &str) -> Result<(&str, &str), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(|| invalid("host"))?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    match port.strip_prefix(':') {
        None if !port.is_empty() => Err(invalid("host")),
        port => Ok((host, port.unwrap_or_default())),
    }
}

fn invalid(name: &str) -> String {
    format!("has an invalid value of {name}")
}

/// Returns whether a text can be a host, so that a misread password is never shown as one.
fn is_host(host: &str) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || ".-_:%".contains(char);
    host.starts_with('/') || (!host.is_empty() && host.chars().all(is_part))
}

/// Decodes `%41`; a `+` is not a space, as in libpq. A single `%` is refused.
fn decode(text: &str) -> Result<String, &'static str> {
    let is_digit = u8::is_ascii_hexdigit;
    let is_code = |code: &str| code.bytes().take(2).filter(is_digit).count() == 2;
    if !text.split('%').skip(1).all(is_code) {
        return Err("holds a % that is not followed by two hexadecimal digits: write it as %25");
    }
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| "is not UTF-8 when percent-decoded")?;
    match decoded.contains('\0') {
        true => Err("holds a NUL character"),
        false => Ok(decoded.into_owned()),
    }
}

#[cfg(test)]
mod tests;
