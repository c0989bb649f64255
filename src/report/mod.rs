//! Who is notified of how a cycle ended, beside its output.

pub mod metrics;
pub mod sentry;
