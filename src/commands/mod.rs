//! One file per command; each asks the settings for what it needs.

pub(crate) mod check;
pub mod migrate;
pub(crate) mod pull;
pub(crate) mod rejected;
pub mod schedule;
pub(crate) mod status;
pub(crate) mod watermark;

use crate::db::transaction::{Access, Store, Tx};
use crate::db::url::DatabaseUrl;
use crate::error::{Result, Stage};
use crate::process::supervise::in_time;

/// Runs one transaction of a command other than a cycle, within its time.
fn transact<T: Send + 'static>(
    database: &DatabaseUrl,
    access: Access,
    work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let url = database.clone();
    in_time(move |deadline| Store::new(&url, deadline, 0).transaction(Stage::Prepare, access, work))
}
