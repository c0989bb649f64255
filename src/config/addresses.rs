//! The addresses of servers: the URLs of DataPass, Sentry's DSN and `DATABASE_URL`. They are validated
//! as those of [`super::values`] are.

use sentry_types::Dsn;
use strum::{EnumString, VariantNames};
use url::Url;

use crate::db::url::{self as database_url, DatabaseUrl};
use crate::net::proxies::is_loopback;

/// `DATAPASS_ALLOW_HTTP`: the hosts that may be asked without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, VariantNames)]
pub(super) enum PlainHttp {
    #[strum(serialize = "1")]
    AnyHost,
    #[default]
    #[strum(serialize = "0")]
    Loopback,
}

/// Parses the URL of a server that gets a secret: https, or http on this very host or when allowed.
/// It may have a query (RFC 6749 section 3.2), but no fragment.
pub(super) fn web_url(text: &str, plain_http: PlainHttp) -> Result<Url, String> {
    const EXPECTED: &str = "must be an https:// URL";
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("has a space or a control character ({EXPECTED})"));
    }
    let url = Url::parse(text).map_err(|_| EXPECTED.to_owned())?;
    // The parser forgives `https:host` and backslashes; we do not guess.
    let slashes = text.get(url.scheme().len()..).is_some_and(|rest| rest.starts_with("://"));
    if !slashes || !matches!(url.scheme(), "http" | "https") {
        return Err(EXPECTED.to_owned());
    }
    if url.scheme() == "http" && plain_http == PlainHttp::Loopback && !is_loopback(&url) {
        return Err("must be https:// (http is for loopback hosts, or for any with \
                    DATAPASS_ALLOW_HTTP=1)"
            .to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or password in it, which is not allowed".to_owned());
    }
    if url.fragment().is_some() {
        return Err("has a fragment (#…), which is not allowed".to_owned());
    }
    Ok(url)
}

/// Parses the base of the API and takes the slashes off its end.
pub(super) fn base_url(text: &str, plain_http: PlainHttp) -> Result<Url, String> {
    let mut url = web_url(text, plain_http)?;
    if url.query().is_some() {
        return Err("has a query (?…), which is not allowed".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Parses a Sentry DSN, which keeps to https like any other URL.
pub(super) fn sentry_dsn(text: &str, plain_http: PlainHttp) -> Result<Dsn, String> {
    const EXPECTED: &str = "must be a Sentry DSN (https://KEY@HOST/PROJECT)";
    let dsn: Dsn = text.parse().map_err(|_| EXPECTED.to_owned())?;
    web_url(dsn.envelope_api_url().as_str(), plain_http)?;
    Ok(dsn)
}

/// Parses `DATABASE_URL`; a problem repeats none of it.
pub(super) fn database_url(text: &str) -> Result<DatabaseUrl, String> {
    database_url::parse(text).map_err(|problem| {
        format!(
            "{problem} (expected: postgres://USER:PASSWORD@HOST/DATABASE, with special characters \
             percent-encoded)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::PlainHttp::{AnyHost, Loopback};
    use super::*;
    use crate::net::tls;

    #[test]
    fn urls_are_https_or_local() {
        for (text, plain_http, expected) in [
            ("https://h/api/v1", Loopback, "https://h/api/v1"),
            ("https://h/api/v1/", Loopback, "https://h/api/v1"),
            ("https://h/api/v1//", Loopback, "https://h/api/v1"),
            ("https://h", Loopback, "https://h/"),
            ("https://h:8443/", Loopback, "https://h:8443/"),
            ("HTTPS://H/", Loopback, "https://h/"),
            ("http://localhost:3000/v1", Loopback, "http://localhost:3000/v1"),
            ("http://127.0.0.1/v1", Loopback, "http://127.0.0.1/v1"),
            ("http://127.9.8.7/v1", Loopback, "http://127.9.8.7/v1"),
            ("http://[::1]:80/v1", Loopback, "http://[::1]/v1"),
            ("http://h/v1", AnyHost, "http://h/v1"),
        ] {
            let url = base_url(text, plain_http).map(String::from);
            assert_eq!(url.as_deref(), Ok(expected), "{text}");
            assert!(web_url(text, plain_http).is_ok(), "{text}");
        }
        for (text, plain_http, expected) in [
            ("http://h/v1", Loopback, "must be https://"),
            ("http://localhost.example/v1", Loopback, "must be https://"),
            ("http://126.0.0.1/v1", Loopback, "must be https://"),
            ("http://[::2]/v1", Loopback, "must be https://"),
            ("http://127.0.0.1.example/v1", Loopback, "must be https://"),
            ("ftp://h/v1", AnyHost, "must be an https:// URL"),
            ("hunter2", AnyHost, "must be an https:// URL"),
            ("h/v1", AnyHost, "must be an https:// URL"),
            ("https:h/v1", AnyHost, "must be an https:// URL"),
            ("https:\\\\h", AnyHost, "must be an https:// URL"),
            ("https://", AnyHost, "must be an https:// URL"),
            ("file:///etc/passwd", AnyHost, "must be an https:// URL"),
            ("https://h/v1 ", AnyHost, "has a space"),
            ("https://h/v1\n", AnyHost, "has a space"),
            ("https://hunter2@h/v1", AnyHost, "has a user name or password"),
            ("https://:hunter2@h/v1", AnyHost, "has a user name or password"),
            ("https://h/v1#hunter2", AnyHost, "has a fragment"),
            ("https://h/v1#", AnyHost, "has a fragment"),
            ("https://h/v1?hunter2", AnyHost, "has a query"),
            ("https://h/v1?", AnyHost, "has a query"),
        ] {
            let problem = base_url(text, plain_http).unwrap_err();
            assert!(problem.starts_with(expected), "{text}: {problem}");
            assert!(!problem.contains("hunter2"), "{text}: {problem}");
        }
        assert!(web_url("https://h/token?tenant=1", Loopback).is_ok());
    }

    #[test]
    fn a_dsn_parses_and_is_https_or_local() {
        for (text, plain_http, is_good) in [
            ("https://key@o1.ingest.example/42", Loopback, true),
            ("http://key@127.0.0.1:9000/42", Loopback, true),
            ("http://key@localhost/42", Loopback, true),
            ("http://key@[::1]:9000/42", Loopback, true),
            ("http://key@sentry.example/42", Loopback, false),
            ("http://key@sentry.example/42", AnyHost, true),
            ("https://sentry.example/42", AnyHost, false),
            ("https://hunter2@sentry.example", AnyHost, false),
            ("hunter2", AnyHost, false),
        ] {
            let dsn = sentry_dsn(text, plain_http).map(drop);
            assert_eq!(dsn.is_ok(), is_good, "{text}");
            assert!(!dsn.err().is_some_and(|problem| problem.contains("hunter2")), "{text}");
        }
    }

    #[test]
    fn a_database_url_parses_or_is_refused_without_its_value() {
        for text in ["postgres://u:p@h/d", "postgresql://u@[::1]:5432/d"] {
            assert!(database_url(text).is_ok(), "{text}");
        }
        for text in [
            "hunter2",
            "postgres://h:hunter2/d",
            "host=h password=hunter2",
            "postgres://h/d?hunter=2",
            "postgres://h/d?sslmode=hunter2",
        ] {
            let problem = database_url(text).unwrap_err();
            assert!(!problem.contains("hunter"), "{text}: {problem}");
        }
    }

    #[test]
    fn root_certificates_are_validated() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let missing = directory.path().join("missing");
        std::fs::write(&file, "x").unwrap();
        for (path, expected) in [
            (&file, "names a file without a usable PEM certificate"),
            (&missing, "names a file that cannot be read: No such file or directory (os error 2)"),
            (
                &directory.path().into(),
                "names a file that cannot be read: Is a directory (os error 21)",
            ),
            (&"/dev/zero".into(), "names a file without a usable PEM certificate"),
        ] {
            assert_eq!(tls::file_roots(path).err().as_deref(), Some(expected));
            let query = format!("sslmode=verify-full&sslrootcert={}", path.display());
            let problem = database_url(&format!("postgres://h/d?{query}")).unwrap_err();
            let expected = format!("has an sslrootcert that {expected} (expected: ");
            assert!(problem.starts_with(&expected), "{problem}");
        }
    }
}
