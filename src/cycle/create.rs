//! Create: one row, and one job, for each entry that gets one.
//!
//! The unique constraint decides, and nothing is counted that is not stored.

use postgres::types::Type;
use serde_json::{Value, json};

use super::enqueue::{self, Queue};
use crate::config::JobConfig;
use crate::db::tables::REQUESTS;
use crate::db::transaction::{Tx, not_written};
use crate::error::{Detail, Result};
use crate::types::entry::Entry;
use crate::types::{CommuneCode, DemandeId, Entity};

const CREATE_ROWS: &str = include_str!("../../sql/create_rows.sql");

/// How many rows one statement inserts: enough to amortize the round trip, small enough to be sent
/// without a pause.
const BATCH_ROWS: usize = 2_000;

/// Creates rows and jobs; each entry is valid and has another public id.
pub fn create(tx: &mut Tx<'_>, new: &[&Entry], config: &JobConfig, queue: &Queue) -> Result<()> {
    let mut ids = Vec::with_capacity(new.len());
    for batch in new.chunks(BATCH_ROWS) {
        ids.extend(insert(tx, batch)?);
    }
    enqueue::enqueue(tx, config, queue, &ids)
}

/// Inserts one batch and returns the primary keys, ascending.
///
/// What the statement does not return is a row that another transaction wrote since the lookup, and
/// that a rerun finds; when it does not, a trigger, a rule or a policy keeps the row out, or wrote it
/// somewhere else.
fn insert(tx: &mut Tx<'_>, batch: &[&Entry]) -> Result<Vec<i64>> {
    let new: Vec<Value> = batch.iter().filter_map(|entry| row(entry)).collect();
    let new = [(&Value::Array(new) as _, Type::JSONB)];
    let mut ids = tx.rows("create rows", CREATE_ROWS, &new, |row| row.try_get(0))?;
    if ids.len() != batch.len() {
        return Err(not_written(REQUESTS).with_detail(Detail::Conflict));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Returns the row of a valid entry.
fn row(entry: &Entry) -> Option<Value> {
    let body = entry.body.as_ref().ok()?;
    let (entity_type, code) = body.perimeter.entity().map(Entity::kind_and_code).unzip();
    let communes: Vec<&str> = body.perimeter.communes().iter().map(CommuneCode::as_str).collect();
    Some(json!({
        "datapass_authorization_id": entry.public_id(),
        "datapass_demande_id": entry.demande_id.map(DemandeId::get),
        "siret": body.siret.to_string(),
        "scholarship_level": body.level.as_str(),
        "entity_type": entity_type,
        "code_insee_entity": code,
        "code_insee_communes": communes,
        "transmission_date": body.transmission_date,
        "last_validated_at": entry.time(),
    }))
}
