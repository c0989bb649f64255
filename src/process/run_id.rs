//! The id of the run under way: the same in log, summary, tables and reports.

use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

static CURRENT: Mutex<Option<Uuid>> = Mutex::new(None);

/// Returns the id of the run under way, a random UUID.
///
/// It distinguishes runs and guards nothing, so it needs no `/dev/urandom`, which a static binary
/// in an empty root would look for.
pub fn current() -> Uuid {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    *current.get_or_insert_with(random)
}

/// Begins another run in this process, with an id of its own.
pub fn renew() {
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(random());
}

fn random() -> Uuid {
    let random = fastrand::u128(..).to_ne_bytes();
    uuid::Builder::from_random_bytes(random).into_uuid()
}
