//! The HTTP client, its retries, and TLS for it and for PostgreSQL.

pub mod http;
pub mod retry;
pub mod tls;
