//! The id of the run under way: the same in log, summary, tables and reports.

use std::sync::LazyLock;

use uuid::Uuid;

use crate::process::lock::Lock;

static CURRENT: LazyLock<Lock<Uuid>> = LazyLock::new(|| Lock::new(random()));

/// Returns the id of the run under way, a random UUID.
///
/// It distinguishes runs and guards nothing, so it needs no `/dev/urandom`, which a static binary
/// in an empty root would look for.
pub fn current() -> Uuid {
    *CURRENT.lock()
}

/// Begins another run in this process, with an id of its own.
pub fn renew() {
    *CURRENT.lock() = random();
}

fn random() -> Uuid {
    let random = fastrand::u128(..).to_ne_bytes();
    uuid::Builder::from_random_bytes(random).into_uuid()
}
