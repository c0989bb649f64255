//! The effective settings for an operator to read: hosts, role, proxies and targets, no secret.

use url::Position;

use super::{JobArgument, JobConfig, PullConfig, Reports, SentryConfig};
use crate::db::url::DatabaseUrl;

/// Returns the settings of a cycle by name.
pub fn describe(config: &PullConfig, reports: &Reports) -> Vec<(&'static str, String)> {
    let PullConfig { upstream, page_size, concurrency, max_retries, .. } = config;
    let (auth_url, api_base_url) = (&upstream.auth_url, &upstream.api_base_url);
    let proxies = &upstream.http.proxies;
    // Neither has a user name or password, and the base no query.
    let token = &auth_url[..Position::AfterPath];
    let listing = upstream.resource("demandes");
    let mut settings = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", env!("BUILD_COMMIT").to_owned()),
        ("token", proxies.through(token, auth_url)),
        ("listing", proxies.through(&listing, api_base_url)),
        ("definition", upstream.definition_id.clone()),
        ("pages", format!("{page_size} rows each, {concurrency} concurrent")),
        ("limits", format!("{} s, {max_retries} retries per request", config.timeout.as_secs())),
        ("database", database(&config.database)),
        ("jobs", jobs(&config.job)),
    ];
    settings.extend(config.retry_for.map(|limit| ("retry for", format!("{} s", limit.as_secs()))));
    let metrics_file = reports.metrics_file.iter();
    settings.extend(metrics_file.map(|path| ("metrics file", path.display().to_string())));
    settings.extend(reports.sentry.iter().map(|config| ("Sentry", sentry(config))));
    settings.extend(reports.ping.iter().map(|it| ("ping", it.http.proxies.route(&it.url))));
    settings
}

fn sentry(config: &SentryConfig) -> String {
    let host = config.http.proxies.route(&config.dsn.envelope_api_url());
    let monitor = config.monitor.as_ref().map(|monitor| format!(", monitor {}", monitor.slug));
    format!("{host}, environment {}{}", config.environment, monitor.unwrap_or_default())
}

fn database(url: &DatabaseUrl) -> String {
    let mut parts = vec![url.places()];
    parts.extend(url.config.get_dbname().map(|name| format!("database {}", plain(name))));
    parts.extend(url.config.get_user().map(|role| format!("role {}", plain(role))));
    parts.push(format!("sslmode {}", url.tls));
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
    let JobConfig { enqueue, class, queue, priority, app, argument } = config;
    let argument = match argument {
        JobArgument::Record => format!("record of {app}"),
        JobArgument::Id => "id".to_owned(),
    };
    format!("{class} with the {argument}, queue {queue}, priority {priority}, enqueue {enqueue}")
}
