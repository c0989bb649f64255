//! Create: what the listing holds against what the tables hold, and the rows and jobs that follow.
//!
//! The unique constraint decides. Entries that the table has are found first, so that a cycle that
//! finds nothing new inserts nothing and burns no sequence value; what another writer inserts
//! meanwhile is skipped by `ON CONFLICT DO NOTHING` and counts as existing.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, NaiveDate, Utc};
use log::{info, warn};
use postgres::types::Type;
use serde_json::json;

use crate::config::JobConfig;
use crate::error::Stage;
use crate::jobs::{self, Queue};
use crate::list::decode::{Element, Entry, Valid};
use crate::rejections::{self, Acceptance, Observed, State};
use crate::report::Summary;
use crate::store::{Tx, TxError};

const EXISTING_ROWS: &str = include_str!("../sql/existing_rows.sql");
const CREATE_ROWS: &str = include_str!("../sql/create_rows.sql");
const TRACKED_REJECTIONS: &str = include_str!("../sql/tracked_rejections.sql");
const READ_REJECTIONS: &str = include_str!("../sql/read_rejections.sql");
const RECORD_REJECTIONS: &str = include_str!("../sql/record_rejections.sql");
const CLOSE_REJECTIONS: &str = include_str!("../sql/close_rejections.sql");

/// How many rows one statement inserts: enough to amortize the round trip, small enough to be sent
/// without a pause.
const BATCH_ROWS: usize = 2_000;

/// The rejections that were neither closed nor seen since, when the cycle began: by reference,
/// whether a person accepted them.
pub type Tracked = HashMap<String, bool>;

/// Reads the rejections to try again.
pub fn tracked(tx: &mut Tx<'_>) -> Result<Tracked, TxError> {
    let rows = tx.rows("read the rejections", TRACKED_REJECTIONS, &[])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// A complete listing, sorted out by the filter.
#[derive(Debug)]
pub struct Plan {
    /// The entries that the cycle is about, oldest validation first, those without one last.
    pub matched: Vec<Entry>,
    /// Entries before `since`: they should be in the table.
    pub earlier: Vec<Entry>,
    /// References of tracked rejections that are not listed any more.
    pub left: Vec<String>,
    /// The greatest validation time that is not later than DataPass' clock.
    pub newest: Option<DateTime<Utc>>,
    /// How many entries are dated after DataPass' clock.
    pub future: u64,
    /// Whether an entry without a validation time is kept.
    first_run: bool,
    tracked: Tracked,
}

impl Plan {
    /// Filters on instants, whatever the offset they are printed with, and puts in order.
    pub fn new(
        elements: Vec<Element>,
        since: Option<DateTime<Utc>>,
        clock: DateTime<Utc>,
        tracked: Tracked,
    ) -> Self {
        let entries: Vec<Entry> =
            elements.into_iter().filter_map(|element| element.entry.map(|entry| *entry)).collect();
        let times = || entries.iter().filter_map(|entry| entry.last_validated_at);
        let newest = times().filter(|time| *time <= clock).max();
        let future = times().filter(|time| *time > clock).count() as u64;
        let listed: HashSet<&str> = entries.iter().map(|entry| &*entry.reference).collect();
        let left = tracked.keys().filter(|known| !listed.contains(known.as_str()));
        let left = left.cloned().collect();
        let is_matched = |entry: &Entry| {
            let in_time = match (entry.last_validated_at, since) {
                (Some(time), Some(since)) => time >= since,
                _ => true,
            };
            in_time || tracked.get(&*entry.reference) == Some(&false)
        };
        let (mut matched, earlier): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().partition(is_matched);
        matched.sort_by(|one, other| {
            let key = |entry: &Entry| (entry.last_validated_at.is_none(), entry.last_validated_at);
            key(one).cmp(&key(other)).then_with(|| one.reference.cmp(&other.reference))
        });
        Self { matched, earlier, left, newest, future, first_run: since.is_none(), tracked }
    }
}

/// What a person should hear of, beside the counters.
#[derive(Debug, Default, Clone)]
pub struct Findings {
    /// Rejected entries: reference, and field and rule of each fault.
    pub rejected: Vec<(String, Vec<String>)>,
    /// References of entries that are dropped.
    pub dropped: Vec<String>,
    /// Entries dated after DataPass' clock.
    pub future: u64,
    /// The oldest validation time of a rejected entry.
    pub oldest_rejected: Option<DateTime<Utc>>,
}

/// Makes the tables follow the listing, and counts. With `dry_run` it only counts.
pub fn reconcile(
    tx: &mut Tx<'_>,
    plan: &Plan,
    job: &JobConfig,
    queue: Queue,
    summary: &mut Summary,
) -> Result<Findings, TxError> {
    let mut findings = Findings { future: plan.future, ..Findings::default() };
    let existing = existing(tx, plan)?;
    let is_existing = |entry: &Entry| {
        entry.public_id.as_deref().and_then(|public_id| existing.get(public_id)).copied()
    };
    let mut valid: Vec<(&Entry, &Valid)> = Vec::new();
    let mut failed: Vec<&Entry> = Vec::new();
    let mut passed: Vec<&str> = Vec::new();
    summary.matched = plan.matched.len() as u64;
    for entry in &plan.matched {
        let timeless = entry.last_validated_at.is_none() && !entry.has_unreadable_time();
        if let Some(stored) = is_existing(entry) {
            summary.existing += 1;
            if stored.is_some_and(|stored| entry.last_validated_at > Some(stored)) {
                summary.revalidated += 1;
            }
            passed.push(&entry.reference);
        } else if timeless && !plan.first_run && !plan.tracked.contains_key(&*entry.reference) {
            summary.dropped += 1;
            findings.dropped.push(entry.reference.to_string());
        } else if let Ok(valid_entry) = &entry.body {
            valid.push((entry, valid_entry));
            passed.push(&entry.reference);
        } else {
            failed.push(entry);
        }
    }
    create(tx, &valid, job, queue, summary)?;
    reject(tx, &failed, summary, &mut findings)?;
    if !summary.dry_run {
        close(tx, passed, &plan.left)?;
    }
    summary.missing = plan
        .earlier
        .iter()
        .filter(|entry| is_existing(entry).is_none())
        .filter(|entry| plan.tracked.get(&*entry.reference) != Some(&true))
        .count() as u64;
    Ok(findings)
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
        .filter_map(|entry| entry.public_id.as_deref())
        .collect();
    let rows =
        tx.rows("look for existing rows", EXISTING_ROWS, &[(&public_ids, Type::TEXT_ARRAY)])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn create(
    tx: &mut Tx<'_>,
    valid: &[(&Entry, &Valid)],
    job: &JobConfig,
    queue: Queue,
    summary: &mut Summary,
) -> Result<(), TxError> {
    let mut seen = HashSet::new();
    // One demande may stand twice in a listing under one public id; the first one decides.
    let (fresh, again): (Vec<_>, Vec<_>) =
        valid.iter().partition(|(_, valid)| seen.insert(valid.authorization_id.as_str()));
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
    summary.enqueued = jobs::enqueue(tx, job, queue, &ids)?;
    Ok(())
}

/// Inserts one batch and returns the new ids, in the order of the batch.
fn insert(tx: &mut Tx<'_>, batch: &[(&Entry, &Valid)]) -> Result<Vec<i64>, TxError> {
    fn column<'a, T>(
        batch: &[(&'a Entry, &'a Valid)],
        value: impl Fn(&'a Entry, &'a Valid) -> T,
    ) -> Vec<T> {
        batch.iter().map(|(entry, valid)| value(entry, valid)).collect()
    }
    let authorization_ids = column(batch, |_, valid| valid.authorization_id.as_str());
    let demande_ids = column(batch, |_, valid| valid.demande_id.get());
    let sirets = column(batch, |_, valid| valid.siret.as_str());
    let levels = column(batch, |_, valid| valid.level.as_str());
    let entity_types = column(batch, |_, valid| valid.perimeter.entity_type());
    let entities = column(batch, |_, valid| valid.perimeter.entity_code());
    let communes = column(batch, |_, valid| array_literal(valid.perimeter.communes()));
    let dates: Vec<Option<NaiveDate>> = column(batch, |_, valid| valid.transmission_date);
    let times = column(batch, |entry, _| entry.last_validated_at);
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
fn array_literal(codes: &[impl AsRef<str>]) -> String {
    let codes: Vec<&str> = codes.iter().map(AsRef::as_ref).collect();
    format!("{{{}}}", codes.join(","))
}

/// Records the entries that failed, as open or as accepted.
fn reject(
    tx: &mut Tx<'_>,
    failed: &[&Entry],
    summary: &mut Summary,
    findings: &mut Findings,
) -> Result<(), TxError> {
    if failed.is_empty() {
        return Ok(());
    }
    let references: Vec<&str> = failed.iter().map(|entry| &*entry.reference).collect();
    let rows =
        tx.rows("read the rejections", READ_REJECTIONS, &[(&references, Type::TEXT_ARRAY)])?;
    let acceptances: HashMap<String, Acceptance> = rows
        .iter()
        .filter(|row| row.get(1))
        .map(|row| (row.get(0), Acceptance(row.get(2))))
        .collect();
    let mut accepted: Vec<&str> = Vec::new();
    let mut records = HashMap::new();
    for entry in failed {
        let reference = &*entry.reference;
        let reasons = entry.reasons();
        let observed = Observed::Failed(entry.last_validated_at);
        if rejections::next(acceptances.get(reference).copied(), observed) == State::Accepted {
            summary.accepted += 1;
            accepted.push(reference);
        } else {
            summary.rejected += 1;
            let time = entry.last_validated_at;
            findings.oldest_rejected =
                [findings.oldest_rejected, time].into_iter().flatten().min();
            warn!(stage = Stage::Create.as_str();
                "Rejected {reference}: {}; it is tried again every cycle", reasons.join(", "));
            findings.rejected.push((reference.to_owned(), reasons.clone()));
        }
        let record = json!({
            "ref": reference,
            "demande_id": entry.demande_id.map(|id| id.get()),
            "datapass_authorization_id": entry.public_id,
            "reasons": reasons,
            "last_validated_at": entry.last_validated_at,
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
fn close(tx: &mut Tx<'_>, mut passed: Vec<&str>, left: &[String]) -> Result<(), TxError> {
    passed.extend(left.iter().map(String::as_str));
    if !passed.is_empty() {
        tx.execute("close rejections", CLOSE_REJECTIONS, &[(&passed, Type::TEXT_ARRAY)])?;
    }
    Ok(())
}
