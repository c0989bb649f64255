//! What HTTP requests need beside their URL: proxies, in upper or lower case, and root certificates.

use url::Url;

use super::addresses::PlainHttp;
use super::settings::Settings;
use super::values;
use crate::net::client::HttpSettings;
use crate::net::proxies::{Exceptions, Proxies};
use crate::net::tls;

impl Settings {
    pub(super) fn plain_http(&mut self) -> PlainHttp {
        self.text("DATAPASS_ALLOW_HTTP", values::word).unwrap_or_default()
    }

    /// Validates what requests to `targets` need; none when one would go through a proxy that is
    /// not understood, since it must not go directly then. Other proxies are left out. A target that
    /// is missing or invalid is most likely https.
    pub(super) fn http(&mut self, targets: &[Option<&Url>]) -> Option<HttpSettings> {
        let no_proxy = self.setting("NO_PROXY", |value| Ok(value.to_string_lossy().into_owned()));
        let exceptions = Exceptions::parse(&no_proxy.unwrap_or_default());
        let mut proxy = |scheme: &str, name: &'static str| {
            let is_used = |target: &Option<&Url>| match target {
                Some(url) => url.scheme() == scheme && !exceptions.contains(url),
                None => scheme == "https",
            };
            let name = [name, "ALL_PROXY"].into_iter().find(|it| self.values.contains_key(it));
            match name.filter(|_| targets.iter().any(is_used)) {
                Some(name) => self.text(name, proxy).map(Some),
                None => Some(None),
            }
        };
        let (https, http) = (proxy("https", "HTTPS_PROXY"), proxy("http", "HTTP_PROXY"));
        let roots = self.setting("DATAPASS_CA_FILE", |path| tls::file_roots(path.as_ref()));
        Some(HttpSettings { proxies: Proxies { http: http?, https: https?, exceptions }, roots })
    }
}

/// Parses a proxy; one without a scheme is http.
fn proxy(text: &str) -> Result<Url, String> {
    let has_blank = text.chars().any(|c| c.is_control() || c.is_whitespace());
    let url = match text.contains("://") {
        true => Url::parse(text),
        false => Url::parse(&format!("http://{text}")),
    };
    let is_usable = |url: &Url| {
        // The HTTP library ignores a proxy whose name has other characters.
        let is_known = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_known = url.domain().is_none_or(|name| name.chars().all(is_known));
        is_known && !has_blank && matches!(url.scheme(), "http" | "https")
    };
    let expected = || "must be an http:// or https:// URL, or HOST:PORT".to_owned();
    url.ok().filter(is_usable).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_http_or_https_url_or_a_host_and_port() {
        for (text, expected) in [
            ("http://proxy.test:3128", "http://proxy.test:3128/"),
            ("HTTPS://proxy.test/", "https://proxy.test/"),
            ("proxy.test:3128", "http://proxy.test:3128/"),
            ("proxy", "http://proxy/"),
            ("10.1.2.3:8080", "http://10.1.2.3:8080/"),
            ("[fd00::1]:8080", "http://[fd00::1]:8080/"),
            ("user:p%40ss@proxy_1:1", "http://user:p%40ss@proxy_1:1/"),
        ] {
            assert_eq!(proxy(text).map(String::from).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "socks5://proxy:1080",
            "ftp://proxy",
            "http://",
            ":3128",
            "proxy:port",
            "proxy:99999",
            "http://pro xy",
            "http://proxy\n:1",
            "http://pro{xy",
            "user:pa/ss@proxy:1",
            " ",
        ] {
            let expected = "must be an http:// or https:// URL, or HOST:PORT";
            assert_eq!(proxy(text), Err(expected.to_owned()), "{text}");
        }
    }
}
