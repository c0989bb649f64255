//! One file per command; each asks the settings for what it needs.

pub(crate) mod check;
pub mod migrate;
pub(crate) mod pull;
pub(crate) mod rejected;
pub mod schedule;
pub(crate) mod status;
pub(crate) mod watermark;

use std::time::Duration;

use crate::db::transaction::{Access, Store, Tx};
use crate::db::url::DatabaseUrl;
use crate::error::{Failure, Reason, Result, Stage};
use crate::process::deadline::Deadline;
use crate::process::supervise::supervise;

/// How long a command other than a cycle may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs one transaction of a command other than a cycle, within its time.
fn transact<T: Send + 'static>(
    database: &DatabaseUrl,
    access: Access,
    work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let deadline = Deadline::after(COMMAND_TIMEOUT);
    let store = Store::new(database, deadline.clone(), 0);
    supervise(&deadline, move || store.transaction(Stage::Prepare, access, work))
}

/// Returns the failure of a command that the operator's own words or the stored state refuse.
fn refused(message: impl Into<String>) -> Failure {
    Failure::new(Stage::Prepare, Reason::Usage, message)
}
