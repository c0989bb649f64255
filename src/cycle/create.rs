//! Create: one row, and one job, for each entry that gets one.
//!
//! The unique constraint decides, and nothing is counted that is not stored.

use chrono::{DateTime, Utc};
use postgres::types::Type;

use super::enqueue::{self, Queue};
use crate::config::JobConfig;
use crate::db::transaction::{Columns, Tx, TxError, not_written};
use crate::types::CommuneCode;
use crate::types::entry::{Listed, Valid};

const CREATE_ROWS: &str = include_str!("../../sql/create_rows.sql");

/// How many rows one statement inserts: enough to amortize the round trip, small enough to be sent
/// without a pause.
const BATCH_ROWS: usize = 2_000;

/// An entry that gets a row, and what the row is made of.
pub type New<'a> = (&'a Listed, &'a Valid);

/// Creates rows and jobs, and returns how many jobs; each entry has another public id.
pub fn create(
    tx: &mut Tx<'_>,
    new: &[New<'_>],
    config: &JobConfig,
    queue: &Queue,
) -> Result<u64, TxError> {
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
fn insert(tx: &mut Tx<'_>, batch: &[New<'_>]) -> Result<Vec<i64>, TxError> {
    fn column<'a, T>(batch: &[New<'a>], value: impl Fn(&'a Valid) -> T) -> Vec<T> {
        batch.iter().map(|(_, body)| value(body)).collect()
    }
    let authorization_ids = column(batch, |body| body.authorization_id.as_str());
    let demande_ids = column(batch, |body| body.demande_id.get());
    let sirets = column(batch, |body| body.siret.to_string());
    let levels = column(batch, |body| body.level.as_str());
    let entity_types = column(batch, |body| body.perimeter.entity().map(|it| it.kind().as_str()));
    let entities = column(batch, |body| body.perimeter.entity().map(|it| it.code()));
    let communes = column(batch, |body| array_literal(body.perimeter.communes()));
    let dates = column(batch, |body| body.transmission_date);
    let times: Vec<Option<DateTime<Utc>>> = batch.iter().map(|(entry, _)| entry.time()).collect();
    let rows = tx.rows(
        "create rows",
        CREATE_ROWS,
        &[
            (&authorization_ids, Type::TEXT_ARRAY),
            (&demande_ids, Type::INT8_ARRAY),
            (&sirets, Type::TEXT_ARRAY),
            (&levels, Type::TEXT_ARRAY),
            (&entity_types, Type::TEXT_ARRAY),
            (&entities, Type::TEXT_ARRAY),
            (&communes, Type::TEXT_ARRAY),
            (&dates, Type::DATE_ARRAY),
            (&times, Type::TIMESTAMPTZ_ARRAY),
        ],
    )?;
    if rows.len() != batch.len() {
        return Err(TxError::Overtaken(not_written("proactivite_requests")));
    }
    let ids = rows.iter().map(|row| row.column(0));
    let mut ids = ids.collect::<Result<Vec<i64>, TxError>>()?;
    ids.sort_unstable();
    Ok(ids)
}

/// Writes commune codes as PostgreSQL prints an array; they are digits and letters only.
fn array_literal(codes: &[CommuneCode]) -> String {
    let codes: Vec<&str> = codes.iter().map(CommuneCode::as_str).collect();
    format!("{{{}}}", codes.join(","))
}
