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
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use postgres::Config;
use postgres::config::SslNegotiation;
use rustls::ClientConfig;

use crate::net::tls::{self, TlsError, Verification};

const DEFAULT_PORT: u16 = 5432;
/// libpq's socket directories: Debian's, then PostgreSQL's own.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// Parameters of the driver that the URL may override. PostgreSQL's own idle time before a
/// keepalive, two hours, is longer than any cycle.
const DEFAULTS: [(&str, &str); 4] = [
    ("application_name", concat!("datapass-pull/", env!("CARGO_PKG_VERSION"))),
    ("keepalives_idle", "30"),
    ("keepalives_interval", "10"),
    ("keepalives_retries", "3"),
];
/// The only limit on this side for a peer that is silent in mid-statement.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

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

/// What is wrong with the URL. It holds no part of it but the name of a known parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

/// What is required of TLS: `sslmode` and `sslrootcert` together. Root certificates are those of a
/// PEM file, or the system's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS when the server offers it, unverified.
    Prefer,
    /// TLS, unverified.
    Require,
    /// TLS, the certificate chain verified.
    VerifyCa(Option<PathBuf>),
    /// TLS, chain and host name verified.
    VerifyFull(Option<PathBuf>),
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
        let (host, port) = (&self.host, self.port);
        match host.parse() {
            Ok(address) => write!(f, "{}", SocketAddr::new(address, port)),
            Err(_) if host.starts_with('/') => write!(f, "{host}/.s.PGSQL.{port}"),
            Err(_) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Err(_) => write!(f, "{host}:{port}"),
        }
    }
}

/// A parsed `DATABASE_URL`.
#[derive(Clone)]
pub struct DatabaseUrl {
    /// User, password, database and settings, without a host.
    pub config: Config,
    /// The servers to try, in order; at least one.
    pub servers: Vec<Server>,
    /// What is required of TLS.
    pub tls: TlsMode,
    /// How TLS is spoken; none where it is not.
    pub client_config: Option<ClientConfig>,
}

impl DatabaseUrl {
    /// Returns all servers, for messages.
    pub fn places(&self) -> String {
        let places: Vec<String> = self.servers.iter().map(Server::to_string).collect();
        places.join(", ")
    }
}

/// Shows neither user nor password.
impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseUrl")
            .field("servers", &self.servers)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Parses the text of `DATABASE_URL`, and reads the root certificates that it names.
pub fn parse(text: &str) -> Result<DatabaseUrl, UrlError> {
    let mut parameters = Parameters::read(text)?;
    let tls = parameters.take_tls()?;
    let servers = parameters.take_servers()?;
    let tcp_user_timeout = match parameters.take("tcp_user_timeout") {
        None => TCP_USER_TIMEOUT,
        // libpq counts it in milliseconds, the driver in seconds.
        Some(text) => {
            let milliseconds = text.parse().map_err(|_| invalid("tcp_user_timeout"))?;
            Duration::from_millis(milliseconds)
        }
    };
    match parameters.0.get("target_session_attrs").map(String::as_str) {
        Some("primary") => parameters.set("target_session_attrs", "read-write")?,
        None if servers.len() > 1 => parameters.set("target_session_attrs", "read-write")?,
        _ => {}
    }
    let mut config = parameters.into_config()?;
    config.tcp_user_timeout(tcp_user_timeout);
    let is_direct = config.get_ssl_negotiation() == SslNegotiation::Direct;
    if is_direct && matches!(tls, TlsMode::Disable | TlsMode::Prefer) {
        return Err(invalid("sslnegotiation"));
    }
    if config.get_user().is_none() && whoami::username().is_err() {
        // The default is the process's user, which has no name in many a container.
        return Err(problem("names no user, and the user of this process has no name"));
    }
    let mut client_config = match servers.iter().all(Server::is_socket) {
        true => None,
        false => client_config(&tls)?,
    };
    if let Some(client_config) = client_config.as_mut().filter(|_| is_direct) {
        client_config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(DatabaseUrl { config, servers, tls, client_config })
}

/// Returns how TLS is spoken, with the root certificates read.
fn client_config(mode: &TlsMode) -> Result<Option<ClientConfig>, UrlError> {
    let roots = |file: &Option<PathBuf>| match file {
        None => tls::roots(None),
        Some(file) => tls::file_roots(file),
    };
    let verification = match mode {
        TlsMode::Disable => return Ok(None),
        TlsMode::Prefer | TlsMode::Require => Ok(Verification::None),
        TlsMode::VerifyCa(file) => roots(file).map(Verification::Chain),
        TlsMode::VerifyFull(file) => roots(file).map(Verification::ChainAndName),
    };
    let config = verification.and_then(tls::client_config);
    config.map(Some).map_err(|error| match error {
        TlsError::Unreadable { kind, .. } => {
            problem(&format!("names a file in sslrootcert that cannot be read ({kind})"))
        }
        TlsError::NoCertificate { .. } => {
            problem("names a file in sslrootcert without a usable PEM certificate")
        }
        error => problem(&format!("needs root certificates: {error}")),
    })
}

/// The parameters of a URL by name; a later one wins, as in libpq.
#[derive(Default)]
struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Reads all parts of a URL.
    fn read(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let schemes = ["postgres://", "postgresql://"];
        let rest = schemes.iter().find_map(|it| text.strip_prefix(it));
        let rest = rest.ok_or_else(|| problem("must be a postgres:// or postgresql:// URL"))?;
        let mut parameters = Self::default();
        let rest = parameters.read_credentials(rest)?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        parameters.read_authority(authority)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let database = path.strip_prefix('/').unwrap_or(path);
        if database.contains('@') {
            return Err(problem(
                "holds a raw @ after the host: percent-encode user, password and database name",
            ));
        }
        parameters.set("dbname", &decode(database)?)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let pair = pair.split_once('=');
            let (name, value) =
                pair.ok_or_else(|| problem("holds a query parameter without a ="))?;
            parameters.set(&decode(name)?, &decode(value)?)?;
        }
        Ok(parameters)
    }

    /// Reads user and password, and returns what follows them.
    ///
    /// As in libpq they end at the first `@` before any `/`, so that a raw `?` may be in a password;
    /// but the one of `host?user=me@place` is in the query.
    fn read_credentials<'a>(&mut self, text: &'a str) -> Result<&'a str, UrlError> {
        let end = text.find('/').unwrap_or(text.len());
        let Some((credentials, rest)) = text
            .get(..end)
            .and_then(|head| head.find('@'))
            .and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?)))
        else {
            return Ok(text);
        };
        let query = credentials.split_once('?').map_or("", |(_, query)| query);
        let in_query = |pair: &str| pair.starts_with("user=") || pair.starts_with("password=");
        if query.split('&').any(in_query) {
            return Ok(text);
        }
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (decode(user)?, decode(password)?),
            None => (decode(credentials)?, String::new()),
        };
        // With `me%3Apassword` the server would receive both as a user name, and repeat it.
        if user.contains(':') && !credentials.contains(':') {
            return Err(problem(
                "holds an encoded : in the user, and no password: percent-encode each by itself",
            ));
        }
        self.set("user", &user)?;
        self.set("password", &password)?;
        Ok(rest)
    }

    /// Reads `host1:port1,[::1]:port2,…`.
    fn read_authority(&mut self, text: &str) -> Result<(), UrlError> {
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for server in text.split(',') {
            let (host, port) = match server.strip_prefix('[').map(|it| it.split_once(']')) {
                None => server.split_once(':').unwrap_or((server, "")),
                Some(Some((host, ""))) => (host, ""),
                Some(Some((host, rest))) => {
                    (host, rest.strip_prefix(':').ok_or_else(|| invalid("host"))?)
                }
                Some(None) => return Err(invalid("host")),
            };
            hosts.push(decode(host)?);
            ports.push(decode(port)?);
        }
        // `:5433/db` is a port without a host.
        for (name, values) in [("host", hosts), ("port", ports)] {
            if values.iter().any(|value| !value.is_empty()) {
                self.set(name, &values.join(","))?;
            }
        }
        Ok(())
    }

    /// Sets a parameter, unless it is one to ignore. An empty value leaves the default.
    fn set(&mut self, name: &str, value: &str) -> Result<(), UrlError> {
        let is_in = |list: &str, name| list.split(' ').any(|it| it == name);
        if value.contains('\0') {
            return Err(problem("holds a NUL character"));
        }
        // Rails writes a hash as `variables[statement_timeout]`.
        if is_in(IGNORED, name.split('[').next().unwrap_or_default()) {
            return Ok(());
        }
        if is_in(REFUSED, name) {
            return Err(problem(&format!("has the parameter {name}, which is not supported")));
        }
        if !name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_') {
            return Err(unknown());
        }
        let (name, value) = match (name, value) {
            // JDBC's way, which libpq accepts too.
            ("ssl", "true") => ("sslmode", "require"),
            ("ssl", _) => return Err(invalid("ssl")),
            ("keepalives_count", value) => ("keepalives_retries", value),
            pair => pair,
        };
        match value {
            "" => self.0.remove(name),
            value => self.0.insert(name.to_owned(), value.to_owned()),
        };
        Ok(())
    }

    /// Returns a parameter's value and removes it.
    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Returns a parameter's values and removes it.
    fn take_list(&mut self, name: &str) -> Vec<String> {
        let list = self.take(name);
        list.map_or_else(Vec::new, |it| it.split(',').map(str::to_owned).collect())
    }

    fn take_tls(&mut self) -> Result<TlsMode, UrlError> {
        let (mode, roots) = (self.take("sslmode"), self.take("sslrootcert"));
        // A public authority signs for any name, so its certificate proves nothing without the name.
        if roots.as_deref() == Some("system") {
            return Ok(TlsMode::VerifyFull(None));
        }
        let roots = roots.map(PathBuf::from);
        Ok(match mode.as_deref().unwrap_or("prefer") {
            "disable" => TlsMode::Disable,
            "allow" | "prefer" => TlsMode::Prefer,
            "require" if roots.is_none() => TlsMode::Require,
            "require" | "verify-ca" => TlsMode::VerifyCa(roots),
            "verify-full" => TlsMode::VerifyFull(roots),
            _ => return Err(invalid("sslmode")),
        })
    }

    fn take_servers(&mut self) -> Result<Vec<Server>, UrlError> {
        let addresses = self.take_list("hostaddr");
        let ports = self.take_list("port");
        let hosts = match self.take_list("host") {
            hosts if !hosts.is_empty() => hosts,
            _ if !addresses.is_empty() => addresses.clone(),
            _ => SOCKET_DIRECTORIES.map(str::to_owned).to_vec(),
        };
        if !addresses.is_empty() && addresses.len() != hosts.len() {
            return Err(invalid("hostaddr"));
        }
        if ports.len() > 1 && ports.len() != hosts.len() {
            return Err(invalid("port"));
        }
        let server = |(index, host): (usize, String)| {
            let port = match ports.get(index).or(ports.first()).map(String::as_str) {
                None | Some("") => DEFAULT_PORT,
                Some(port) => port.parse().map_err(|_| invalid("port"))?,
            };
            let address = addresses.get(index).map(|address| address.parse());
            match (is_host(&host), port) {
                (false, _) => Err(invalid("host")),
                (_, 0) => Err(invalid("port")),
                _ => Ok(Server {
                    host,
                    address: address.transpose().map_err(|_| invalid("hostaddr"))?,
                    port,
                }),
            }
        };
        hosts.into_iter().enumerate().map(server).collect()
    }

    /// Gives what is left to the driver.
    fn into_config(mut self) -> Result<Config, UrlError> {
        for (name, value) in DEFAULTS {
            let parameter = self.0.entry(name.to_owned());
            parameter.or_insert_with(|| value.to_owned());
        }
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        let pairs = self.0.iter();
        let pairs: Vec<String> =
            pairs.map(|(name, value)| format!("{name}='{}'", quoted(value))).collect();
        pairs.join(" ").parse().map_err(|error: postgres::Error| {
            // The driver names an unknown parameter, or a known one whose value is invalid.
            let cause = error.source().map(ToString::to_string);
            let cause = cause.unwrap_or_default();
            let name = cause.strip_prefix("invalid value for option `");
            name.map_or_else(unknown, |name| invalid(name.trim_end_matches('`')))
        })
    }
}

fn problem(text: &str) -> UrlError {
    UrlError(text.to_owned())
}

fn invalid(name: &str) -> UrlError {
    UrlError(format!("has an invalid value of {name}"))
}

fn unknown() -> UrlError {
    problem("has an unknown parameter (its name is not shown: it may be a part of a password)")
}

/// Returns whether a text can be a host, so that a misread password is never shown as one.
fn is_host(host: &str) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || ".-_:%".contains(char);
    host.starts_with('/') || (!host.is_empty() && host.chars().all(is_part))
}

/// Decodes `%41`; a `+` is not a space, as in libpq. A single `%` is refused.
fn decode(text: &str) -> Result<String, UrlError> {
    let is_code = |code: &str| {
        let digits = code.bytes().take(2).filter(u8::is_ascii_hexdigit);
        digits.count() == 2
    };
    if !text.split('%').skip(1).all(is_code) {
        return Err(problem(
            "holds a % that is not followed by two hexadecimal digits: write it as %25",
        ));
    }
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| problem("is not UTF-8 when percent-decoded"))?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests;
