//! The text of a PostgreSQL address, as a URL or as `key=value` pairs, read into options by name.

use percent_encoding::percent_decode_str;

use crate::db::address::AddressError;

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

/// Options that are refused by name, libpq's then one that people hope for. Any other name may be a
/// piece of a password that was not quoted or percent-encoded, and is not shown.
const REFUSED: &[&str] = &[
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "service",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslpassword",
    "schema_search_path",
];

/// Options by name; a later one wins, as in libpq.
#[derive(Default)]
pub(super) struct Options(Vec<(String, String)>);

impl Options {
    /// Reads a URL or `key=value` text.
    pub(super) fn read(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let mut options = Self::default();
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
        Ok(options)
    }

    /// Returns all that is left, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets an option, unless it is one to ignore or its value is empty.
    pub(super) fn set(&mut self, name: &str, value: String) -> Result<(), AddressError> {
        if value.contains('\0') {
            return Err(AddressError::Malformed("holds a NUL character"));
        }
        // Rails writes a hash as `variables[statement_timeout]`.
        let known = name.split('[').next().unwrap_or_default();
        if IGNORED.contains(&known) {
            return Ok(());
        }
        if !PASSED.contains(&name) && !HANDLED.contains(&name) {
            let shown = REFUSED.iter().find(|known| **known == name);
            let shown = shown.copied().unwrap_or("(its name is not shown)");
            return Err(AddressError::Unsupported(shown.to_owned()));
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

    /// Returns an option's value and forgets it.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(index).1)
    }

    /// Tells whether an option is set.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Reads what follows `postgres://`.
    fn read_url(&mut self, text: &str) -> Result<(), AddressError> {
        let mut rest = text;
        if let Some(end) = credentials_end(text) {
            let (user, password) = split_once_or_all(&text[..end], ':');
            let user = decode(user)?;
            // `me%3Apassword` in one: the server would be told all of it as a name, and repeat it.
            if user.contains(':') && password.is_none() {
                return Err(AddressError::Malformed(
                    "holds an encoded : in the user, and no password: percent-encode each by itself",
                ));
            }
            self.set("user", user)?;
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
}

/// Tells `mysql://…?a=b` from `key=value` text that holds `://` in a value.
fn starts_with_scheme(text: &str) -> bool {
    text.find("://")
        .is_some_and(|end| !text[..end].contains(['=', '\'', ' ']))
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
