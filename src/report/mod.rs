//! Who is notified of how a cycle ended, beside its output.

pub(crate) mod metrics;
pub(crate) mod sentry;
