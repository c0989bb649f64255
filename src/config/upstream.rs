//! DataPass.

use secrecy::SecretString;
use url::Url;

use super::settings::{Settings, all};
use super::{addresses, values};
use crate::net::client::HttpSettings;

/// Where DataPass is and who asks.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// `DATAPASS_AUTH_URL`: the whole token URL.
    pub auth_url: Url,
    /// `DATAPASS_API_BASE_URL`, without a slash at the end of its path.
    pub api_base_url: Url,
    /// `DATAPASS_CLIENT_ID`: the OAuth client.
    pub client_id: String,
    /// `DATAPASS_CLIENT_SECRET`.
    pub client_secret: SecretString,
    /// Proxies and root certificates.
    pub http: HttpSettings,
    /// `DATAPASS_DEFINITION_ID`: the kind of request that is pulled.
    pub definition_id: String,
}

impl UpstreamConfig {
    /// Returns the address of what the API calls so, such as `demandes`.
    pub fn resource(&self, name: &str) -> String {
        // A base without a path is printed with the slash of the root.
        let base = self.api_base_url.as_str().trim_end_matches('/');
        format!("{base}/{name}")
    }
}

impl Settings {
    pub(super) fn upstream(&mut self) -> Option<UpstreamConfig> {
        let plain_http = self.plain_http();
        let auth = self.text("DATAPASS_AUTH_URL", |it| addresses::web_url(it, plain_http));
        let base = self.text("DATAPASS_API_BASE_URL", |it| addresses::base_url(it, plain_http));
        let secret = self.secret("DATAPASS_CLIENT_SECRET", |it| values::plain(it, usize::MAX));
        all!(UpstreamConfig {
            http: self.http(&[auth.as_ref(), base.as_ref()]),
            auth_url: auth,
            api_base_url: base,
            client_id: self.text("DATAPASS_CLIENT_ID", |it| values::plain(it, 4_096)),
            client_secret: secret.map(SecretString::from),
            definition_id: self.definition_id(),
        })
    }

    /// The definition whose requests are pulled.
    pub fn definition_id(&mut self) -> Option<String> {
        self.text("DATAPASS_DEFINITION_ID", |it| values::plain(it, 200))
    }
}
