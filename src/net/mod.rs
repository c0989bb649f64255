//! The HTTP client, its proxies and retries, and TLS for it and for PostgreSQL.

pub mod body;
pub(crate) mod client;
pub(crate) mod http;
pub(crate) mod proxies;
pub(crate) mod retry;
pub(crate) mod tls;
