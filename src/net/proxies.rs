//! Which proxy a request goes through: the proxy per scheme and the exceptions of `NO_PROXY`.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Position, Url};

/// The proxies of the settings. A loopback host is never asked through one: the client secret
/// would leave this machine.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For http URLs.
    pub http: Option<Url>,
    /// For https URLs.
    pub https: Option<Url>,
    /// The hosts that are asked directly.
    pub exceptions: Exceptions,
}

impl Proxies {
    /// Returns the proxy that requests to `target` go through.
    pub fn find(&self, target: &Url) -> Option<&Url> {
        let proxy = match target.scheme() {
            "https" => self.https.as_ref(),
            _ => self.http.as_ref(),
        };
        proxy.filter(|_| !self.exceptions.contains(target))
    }

    /// Returns host, port and proxy of a URL, for messages.
    pub fn route(&self, target: &Url) -> String {
        self.through(host_and_port(target), target)
    }

    /// Adds the proxy of a URL to what messages show of it: scheme, host and port, never credentials.
    pub fn through(&self, shown: &str, target: &Url) -> String {
        match self.find(target) {
            Some(proxy) => {
                let (scheme, address) = (proxy.scheme(), host_and_port(proxy));
                format!("{shown} through the proxy {scheme}://{address}")
            }
            None => shown.to_owned(),
        }
    }
}

fn host_and_port(url: &Url) -> &str {
    &url[Position::BeforeHost..Position::AfterPort]
}

/// Shows nothing: a proxy's URL may hold credentials.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").finish_non_exhaustive()
    }
}

/// Returns whether a URL's host is this machine.
pub fn is_loopback(url: &Url) -> bool {
    let is_ours = |host| host == "localhost" || address(host).is_some_and(|it| it.is_loopback());
    url.host_str().is_some_and(is_ours)
}

/// Parses a host that is an IP address; brackets may be around one of version 6.
fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

/// The entries of `NO_PROXY`: hosts, each with a port when it names one.
#[derive(Debug, Clone, Default)]
pub struct Exceptions(Vec<(Hosts, Option<u16>)>);

#[derive(Debug, Clone)]
enum Hosts {
    Any,
    Network(IpNet),
    /// A name, and all names below it.
    Domain(String),
}

impl Exceptions {
    /// Parses the entries, which commas or blanks separate: `*`, a host name with or without a dot
    /// at either end, an IP address, a network in CIDR notation, each with or without a port. What
    /// is none of these is ignored, as curl does.
    pub fn parse(text: &str) -> Self {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace());
        Self(entries.filter_map(exception).collect())
    }

    /// Returns whether a URL's host is asked directly.
    pub fn contains(&self, target: &Url) -> bool {
        let matches = |(hosts, port): &(Hosts, Option<u16>)| {
            (port.is_none() || *port == target.port_or_known_default()) && hosts.contain(target)
        };
        is_loopback(target) || self.0.iter().any(matches)
    }
}

impl Hosts {
    fn contain(&self, target: &Url) -> bool {
        match (self, target.host_str().and_then(address), target.domain()) {
            (Self::Any, _, _) => true,
            (Self::Network(network), Some(address), _) => network.contains(&address),
            (Self::Domain(domain), _, Some(name)) => {
                let above = name.trim_end_matches('.').strip_suffix(domain.as_str());
                above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            _ => false,
        }
    }
}

fn exception(entry: &str) -> Option<(Hosts, Option<u16>)> {
    // An IPv6 address has colons of its own.
    if let Some(hosts) = hosts(entry) {
        return Some((hosts, None));
    }
    let (host, port) = entry.rsplit_once(':')?;
    Some((hosts(host)?, Some(port.parse().ok()?)))
}

fn hosts(text: &str) -> Option<Hosts> {
    if text == "*" {
        return Some(Hosts::Any);
    }
    let network = text.parse().ok().or_else(|| address(text).map(IpNet::from));
    if let Some(network) = network {
        return Some(Hosts::Network(network));
    }
    let name = text.strip_prefix('*').unwrap_or(text).trim_matches('.');
    let host = Host::parse(name).ok()?;
    Some(Hosts::Domain(host.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(no_proxy: &str, target: &str) -> bool {
        Exceptions::parse(no_proxy).contains(&Url::parse(target).unwrap())
    }

    #[test]
    fn no_proxy_accepts_its_usual_formats() {
        for (no_proxy, excepted, others) in [
            ("", &[][..], &["http://h.test"][..]),
            ("*", &["http://h.test", "https://10.1.2.3:8443"], &[]),
            (
                "api.test",
                &["https://api.test", "http://API.test.:81", "http://a.b.api.test"],
                &["http://myapi.test", "http://api.test.org", "http://test"],
            ),
            (".api.test", &["http://api.test", "http://a.api.test"], &["http://xapi.test"]),
            ("*.api.test", &["http://a.api.test"], &["http://xapi.test"]),
            ("API.test.", &["http://api.test", "http://api.test."], &[]),
            ("bücher.test", &["http://xn--bcher-kva.test"], &[]),
            (
                "api.test:8443",
                &["https://api.test:8443", "http://a.api.test:8443"],
                &["https://api.test", "http://api.test:844"],
            ),
            ("api.test:443", &["https://api.test"], &["http://api.test"]),
            ("10.1.2.3", &["http://10.1.2.3:80"], &["http://10.1.2.4"]),
            ("10.1.2.3:81", &["http://10.1.2.3:81"], &["http://10.1.2.3"]),
            ("10.1.0.0/16", &["http://10.1.2.3"], &["http://10.2.2.3", "http://10.test"]),
            ("fd00::1", &["http://[fd00::1]:81"], &["http://[fd00::2]"]),
            ("[fd00::1]", &["http://[fd00::1]"], &["http://[fd00::2]"]),
            ("[fd00::1]:81", &["http://[fd00::1]:81"], &["http://[fd00::1]"]),
            ("fd00::/8", &["http://[fd12::1]"], &["http://[fe00::1]"]),
            (
                " a.test,, b.test c.test ,d.test",
                &["http://a.test", "http://b.test", "http://c.test", "http://d.test"],
                &["http://e.test"],
            ),
            (".", &[], &["http://h.test", "http://h.test."]),
            ("a b/c:x:99999 [ ] : /", &["http://a"], &["http://h.test"]),
        ] {
            for target in excepted {
                assert!(contains(no_proxy, target), "{no_proxy}: {target}");
            }
            for target in others {
                assert!(!contains(no_proxy, target), "{no_proxy}: {target}");
            }
        }
    }

    #[test]
    fn the_scheme_selects_the_proxy_and_loopback_hosts_have_none() {
        let url = |text: &str| Url::parse(text).unwrap();
        let proxies = Proxies {
            http: Some(url("http://user:canari@plain.test:3128/")),
            https: Some(url("https://tls.test/")),
            exceptions: Exceptions::parse("internal.test"),
        };
        for (target, expected) in [
            ("http://h.test/a", Some("http://plain.test:3128")),
            ("https://h.test/a", Some("https://tls.test")),
            ("https://internal.test", None),
            ("http://localhost:81", None),
            ("http://127.9.9.9", None),
            ("https://[::1]", None),
        ] {
            let route = proxies.route(&url(target));
            let found = route.split_once(" through the proxy ").map(|(_, proxy)| proxy);
            assert_eq!(found, expected, "{target}");
        }
        assert!(!format!("{proxies:?}").contains("canari"));
    }
}
