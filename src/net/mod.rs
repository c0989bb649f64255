//! The HTTP client, its proxies and retries, and TLS for it and for PostgreSQL.

pub mod body;
pub mod http;
pub mod proxies;
pub mod retry;
pub mod tls;
