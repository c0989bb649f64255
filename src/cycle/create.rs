//! Create: what the listing holds against what the tables hold, and the rows and jobs that follow.
//!
//! The unique constraint decides. Entries that the table has are found first, so that a cycle that
//! finds nothing new inserts nothing and burns no sequence value; what another writer inserts
//! meanwhile is skipped by `ON CONFLICT DO NOTHING` and counts as existing.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use log::{info, warn};
use postgres::Row;
use postgres::types::Type;
use serde_json::json;

use crate::config::JobConfig;
use crate::cycle::enqueue::{self, Queue};
use crate::cycle::filter::{Known, Listed, Plan, Tracked};
use crate::cycle::outcome::Findings;
use crate::db::transaction::{self, Tx, TxError};
use crate::error::Stage;
use crate::state::acceptance::{Acceptance, State};
use crate::state::summary::Summary;
use crate::types::entry::{Rejected, Valid};
use crate::types::{CommuneCode, DemandeId};

const EXISTING_ROWS: &str = include_str!("../../sql/existing_rows.sql");
const CREATE_ROWS: &str = include_str!("../../sql/create_rows.sql");
const TRACKED_REJECTIONS: &str = include_str!("../../sql/tracked_rejections.sql");
const READ_REJECTIONS: &str = include_str!("../../sql/read_rejections.sql");
const RECORD_REJECTIONS: &str = include_str!("../../sql/record_rejections.sql");
const CLOSE_REJECTIONS: &str = include_str!("../../sql/close_rejections.sql");

/// How many rows one statement inserts: enough to amortize the round trip, small enough to be sent
/// without a pause.
const BATCH_ROWS: usize = 2_000;
/// How many public ids one statement looks up: an answer is held twice for as long as it is read.
const BATCH_LOOKUPS: usize = 10_000;

/// Reads the rejections to try again, and the decisions.
pub fn tracked(tx: &mut Tx<'_>) -> Result<Tracked, TxError> {
    let rows = tx.rows("read the rejections", TRACKED_REJECTIONS, &[])?;
    Ok(rows.iter().map(known).collect())
}

fn known(row: &Row) -> (String, Known) {
    let accepted: bool = row.get(1);
    let known = Known {
        acceptance: accepted.then(|| Acceptance(transaction::instant(row, 2))),
        closed: row.get(3),
    };
    (row.get(0), known)
}

/// Makes the tables follow the listing, and counts. With `dry_run` it only counts.
pub fn reconcile(
    tx: &mut Tx<'_>,
    plan: &Plan,
    job: &JobConfig,
    queue: &Queue,
    summary: &mut Summary,
) -> Result<Findings, TxError> {
    let mut findings = Findings {
        future: plan.future,
        ..Findings::default()
    };
    let existing = existing(tx, plan)?;
    let stored = |entry: &Listed| {
        let public_id = entry.public_id()?;
        existing.get(public_id).copied()
    };
    let exists = |entry: &Listed| stored(entry).is_some();
    let sorted = plan.sort_out(exists);
    summary.matched = plan.matched.len() as u64;
    summary.existing = sorted.existing.len() as u64;
    let is_newer = |entry: &&&Listed| {
        let stored = stored(entry).flatten();
        stored.is_some_and(|stored| entry.time() > Some(stored))
    };
    summary.revalidated = sorted.existing.iter().filter(is_newer).count() as u64;
    summary.dropped = sorted.dropped.len() as u64;
    let references = sorted.dropped.iter().map(|entry| entry.reference.clone());
    findings.dropped = references.collect();
    let valid = sorted.valid.iter().map(|(entry, body)| New {
        time: entry.time(),
        body,
    });
    create(tx, valid, job, queue, summary)?;
    reject(tx, &sorted.failed, summary, &mut findings)?;
    if !summary.dry_run {
        close(tx, sorted.passed().collect(), &plan.left)?;
    }
    summary.missing = plan.missing(exists).count() as u64;
    warn_of(&findings, summary);
    Ok(findings)
}

/// Logs what deserves a person's look, beside the rejections.
fn warn_of(findings: &Findings, summary: &Summary) {
    let stage = Stage::Create.as_str();
    if findings.future > 0 {
        warn!(stage = stage; "{} entries are dated after DataPass' own clock", findings.future);
    }
    for reference in &findings.dropped {
        warn!(stage = stage;
            "Dropped {reference}: it has no validation time; only `watermark reset` takes it");
    }
    if summary.missing > 0 {
        warn!(stage = stage;
            "{} entries from before the look-back are not in the table; `--since` takes them",
            summary.missing);
    }
}

/// Looks the listed entries up: public id, and the validation time that the row was made from.
fn existing(
    tx: &mut Tx<'_>,
    plan: &Plan,
) -> Result<HashMap<String, Option<DateTime<Utc>>>, TxError> {
    let public_ids: Vec<&str> = plan
        .matched
        .iter()
        .chain(&plan.earlier)
        .filter_map(Listed::public_id)
        .collect();
    let mut existing = HashMap::new();
    for batch in public_ids.chunks(BATCH_LOOKUPS) {
        let rows = tx.rows(
            "look for existing rows",
            EXISTING_ROWS,
            &[(&batch, Type::TEXT_ARRAY)],
        )?;
        existing.extend(
            rows.iter()
                .map(|row| (row.get(0), transaction::instant(row, 1))),
        );
    }
    Ok(existing)
}

/// An entry that gets a row.
#[derive(Clone, Copy)]
struct New<'a> {
    time: Option<DateTime<Utc>>,
    body: &'a Valid,
}

fn create<'a>(
    tx: &mut Tx<'_>,
    valid: impl Iterator<Item = New<'a>>,
    job: &JobConfig,
    queue: &Queue,
    summary: &mut Summary,
) -> Result<(), TxError> {
    let mut seen = HashSet::new();
    // One public id may stand under two demandes; the one validated first decides.
    let (fresh, again): (Vec<New<'a>>, Vec<New<'a>>) =
        valid.partition(|new| seen.insert(new.body.authorization_id.as_str()));
    summary.existing += again.len() as u64;
    if summary.dry_run {
        summary.created = fresh.len() as u64;
        summary.enqueued = if queue.enqueues() { summary.created } else { 0 };
        return Ok(());
    }
    let mut ids = Vec::with_capacity(fresh.len());
    for batch in fresh.chunks(BATCH_ROWS) {
        ids.extend(insert(tx, batch)?);
    }
    // Another writer came first for the rest.
    summary.existing += (fresh.len() - ids.len()) as u64;
    summary.created = ids.len() as u64;
    summary.enqueued = enqueue::enqueue(tx, job, queue, &ids)?;
    Ok(())
}

/// Inserts one batch and returns the new ids, in the order of the batch.
fn insert(tx: &mut Tx<'_>, batch: &[New<'_>]) -> Result<Vec<i64>, TxError> {
    fn column<'a, T>(batch: &[New<'a>], value: impl Fn(&'a Valid) -> T) -> Vec<T> {
        batch.iter().map(|new| value(new.body)).collect()
    }
    let authorization_ids = column(batch, |body| body.authorization_id.as_str());
    let demande_ids = column(batch, |body| body.demande_id.get());
    let sirets = column(batch, |body| body.siret.to_string());
    let levels = column(batch, |body| body.level.as_str());
    let entity_types = column(batch, |body| {
        body.perimeter.entity().map(|it| it.kind().as_str())
    });
    let entities = column(batch, |body| body.perimeter.entity().map(|it| it.code()));
    let communes = column(batch, |body| array_literal(body.perimeter.communes()));
    let dates = column(batch, |body| body.transmission_date);
    let times: Vec<Option<DateTime<Utc>>> = batch.iter().map(|new| new.time).collect();
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
    let mut ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    ids.sort_unstable();
    info!(stage = Stage::Create.as_str(); "Created {} rows", ids.len());
    Ok(ids)
}

/// Writes commune codes as PostgreSQL's text form of an array; they are digits and letters only.
fn array_literal(codes: &[CommuneCode]) -> String {
    let codes: Vec<&str> = codes.iter().map(CommuneCode::as_str).collect();
    format!("{{{}}}", codes.join(","))
}

/// Records the entries that failed, as open or as accepted.
fn reject(
    tx: &mut Tx<'_>,
    failed: &[(&Listed, &Rejected)],
    summary: &mut Summary,
    findings: &mut Findings,
) -> Result<(), TxError> {
    if failed.is_empty() {
        return Ok(());
    }
    let references: Vec<&str> = failed.iter().map(|(entry, _)| &*entry.reference).collect();
    let rows = tx.rows(
        "read the rejections",
        READ_REJECTIONS,
        &[(&references, Type::TEXT_ARRAY)],
    )?;
    let stored: Tracked = rows.iter().map(known).collect();
    let mut accepted: Vec<&str> = Vec::new();
    let mut records = HashMap::new();
    for (entry, rejected) in failed {
        let reference = &*entry.reference;
        let time = entry.time();
        let reasons: Vec<String> = rejected.faults.iter().map(ToString::to_string).collect();
        let known = stored.get(reference).copied().unwrap_or_default();
        if known.state(entry) == State::Accepted {
            summary.accepted += 1;
            accepted.push(reference);
        } else {
            summary.rejected += 1;
            findings.oldest_rejected = [findings.oldest_rejected, time].into_iter().flatten().min();
            warn!(stage = Stage::Create.as_str();
                "Rejected {reference}: {}; it is tried again every cycle", reasons.join(", "));
            findings
                .rejected
                .push((reference.to_owned(), reasons.clone()));
        }
        let record = json!({
            "ref": reference,
            "demande_id": entry.key.demande_id().map(DemandeId::get),
            "datapass_authorization_id": entry.public_id(),
            "reasons": reasons,
            "last_validated_at": time,
        });
        // One statement cannot touch a row twice.
        records.insert(reference, record);
    }
    if summary.dry_run {
        return Ok(());
    }
    let records = serde_json::Value::Array(records.into_values().collect());
    tx.execute(
        "record the rejections",
        RECORD_REJECTIONS,
        &[(&records, Type::JSONB), (&accepted, Type::TEXT_ARRAY)],
    )?;
    Ok(())
}

/// Closes the rejections of entries that passed or left the listing.
fn close<'a>(tx: &mut Tx<'_>, mut passed: Vec<&'a str>, left: &'a [String]) -> Result<(), TxError> {
    passed.extend(left.iter().map(String::as_str));
    if !passed.is_empty() {
        tx.execute(
            "close rejections",
            CLOSE_REJECTIONS,
            &[(&passed, Type::TEXT_ARRAY)],
        )?;
    }
    Ok(())
}
