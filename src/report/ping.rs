//! Healthchecks' protocol: `/start`, then the exit status. The URL is a secret.

use uuid::Uuid;

use crate::config::PingConfig;
use crate::net::client::Posts;

/// Makes the ping of a signal, which follows the path of the URL, before its query.
pub(super) fn posts(config: &PingConfig, signal: &str, id: Uuid, body: &str) -> Posts {
    let mut url = config.url.clone();
    url.set_path(&format!("{}/{signal}", config.url.path().trim_end_matches('/')));
    url.query_pairs_mut().append_pair("rid", &id.to_string());
    Posts {
        settings: config.http.clone(),
        url,
        header: ("Content-Type", "text/plain; charset=utf-8".to_owned()),
        bodies: vec![body.into()],
    }
}
