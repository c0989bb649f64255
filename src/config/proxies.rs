//! What HTTP requests need beside their URL: proxies, in upper or lower case, and root certificates.

use std::ffi::OsString;
use std::path::PathBuf;

use url::{Host, Url};

use super::addresses;
use super::settings::{Settings, utf8};
use super::sources::Source;
use crate::net::client::HttpSettings;
use crate::net::proxies::{Exceptions, Proxies};

impl Settings {
    /// Validates what requests to `targets` need; none when one would go through a proxy that is
    /// not understood, since it must not go directly then. Other proxies are not validated. A
    /// target that is missing or invalid is most likely https.
    pub(super) fn http(&mut self, targets: &[Option<&Url>]) -> Option<HttpSettings> {
        let no_proxy = self.proxy_variable("NO_PROXY");
        let no_proxy = no_proxy.map(|(_, value)| value.to_string_lossy().into_owned());
        let exceptions = Exceptions::parse(&no_proxy.unwrap_or_default());
        let mut is_valid = true;
        let mut proxy = |scheme: &str, name: &'static str| {
            let is_used = |target: &Option<&Url>| match target {
                Some(url) => url.scheme() == scheme && !exceptions.contains(url),
                None => scheme == "https",
            };
            let found = self.proxy_variable(name);
            let (place, value) = found.or_else(|| self.proxy_variable("ALL_PROXY"))?;
            let parsed = utf8(&value).and_then(proxy);
            let problem = parsed.as_ref().err().filter(|_| targets.iter().any(is_used));
            if let Some(problem) = problem {
                is_valid = false;
                let text = format!("{place} {problem}");
                self.problem("HTTPS_PROXY", Source::Process, text);
            }
            parsed.ok()
        };
        let (https, http) = (proxy("https", "HTTPS_PROXY"), proxy("http", "HTTP_PROXY"));
        let ca_file = self
            .setting("DATAPASS_CA_FILE", |path| addresses::root_certificates(PathBuf::from(path)));
        let proxies = Proxies { http, https, exceptions };
        is_valid.then_some(HttpSettings { proxies, ca_file })
    }

    /// Finds a proxy and the name to report it by.
    fn proxy_variable(&self, name: &str) -> Option<(String, OsString)> {
        let given = self.values.get(name)?;
        Some((given.place.clone(), given.value.clone()?))
    }
}

/// Parses a proxy; one without a scheme is http.
fn proxy(text: &str) -> Result<Url, String> {
    const EXPECTED: &str = "must be an http:// or https:// URL, or HOST:PORT";
    let has_blank = text.chars().any(|c| c.is_control() || c.is_whitespace());
    let url = match text.contains("://") {
        true => Url::parse(text),
        false => Url::parse(&format!("http://{text}")),
    };
    let is_usable = |url: &Url| {
        // The HTTP library ignores a proxy whose name has other characters.
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_host = match url.host() {
            Some(Host::Domain(name)) => name.bytes().all(is_known),
            host => host.is_some(),
        };
        is_host && matches!(url.scheme(), "http" | "https")
    };
    url.ok().filter(|url| !has_blank && is_usable(url)).ok_or_else(|| EXPECTED.to_owned())
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
