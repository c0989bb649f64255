//! The effective settings for an operator to read: hosts, role, proxies and targets, no secret.

use url::{Position, Url};

use super::{JobArgument, JobConfig, PullConfig, Reports};
use crate::db::url::DatabaseUrl;
use crate::net::client::HttpSettings;

/// Returns the settings of a cycle by name.
pub fn describe(config: &PullConfig, reports: &Reports) -> Vec<(&'static str, String)> {
    let upstream = &config.upstream;
    let listing = Url::parse(&upstream.resource("demandes")).ok();
    let mut settings = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", env!("BUILD_COMMIT").to_owned()),
        ("token", endpoint(&upstream.auth_url, &upstream.http)),
    ];
    settings.extend(listing.map(|url| ("listing", endpoint(&url, &upstream.http))));
    settings.push(("definition", upstream.definition_id.clone()));
    let (rows, concurrency) = (config.page_size, config.concurrency);
    settings.push(("pages", format!("{rows} rows each, {concurrency} concurrent")));
    let (timeout, retries) = (config.timeout.as_secs(), config.max_retries);
    settings.push(("limits", format!("{timeout} s, {retries} retries per request")));
    settings.push(("database", database(&config.database.url)));
    settings.push(("jobs", jobs(&config.job)));
    if let Some(path) = &reports.metrics_file {
        settings.push(("metrics file", path.display().to_string()));
    }
    if let Some(sentry) = &reports.sentry {
        let host = sentry.http.proxies.route(&sentry.dsn.envelope_api_url());
        let environment = &sentry.environment;
        settings.push(("Sentry", format!("{host}, environment {environment}")));
    }
    if let Some(ping) = &reports.ping {
        settings.push(("ping", ping.http.proxies.route(&ping.url)));
    }
    settings
}

/// Returns a URL without credentials and query, and its proxy.
fn endpoint(url: &Url, settings: &HttpSettings) -> String {
    let address = &url[Position::BeforeHost..Position::AfterPath];
    let address = format!("{}://{address}", url.scheme());
    settings.proxies.through(&address, url)
}

fn database(url: &DatabaseUrl) -> String {
    let mut parts = vec![url.places()];
    let name = url.config.get_dbname();
    parts.extend(name.map(|name| format!("database {}", plain(name))));
    let role = url.config.get_user();
    parts.extend(role.map(|role| format!("role {}", plain(role))));
    parts.push(format!("sslmode {}", url.tls.as_str()));
    parts.join(", ")
}

/// Returns a name, unless it has special characters: then it may be a misplaced password.
fn plain(name: &str) -> &str {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    match name.chars().all(is_plain) {
        true => name,
        false => "…",
    }
}

fn jobs(config: &JobConfig) -> String {
    let JobConfig { class, queue, priority, .. } = config;
    let argument = match config.argument {
        JobArgument::Record => format!("record of {}", config.app),
        JobArgument::Id => "id".to_owned(),
    };
    let mode = config.enqueue.as_str();
    format!("{class} with the {argument}, queue {queue}, priority {priority}, enqueue {mode}")
}
