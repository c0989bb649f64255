//! Queries of the program's tables.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;

use super::postgres::Database;

/// Makes the job table of GoodJob 3.99, with its indexes.
pub const GOOD_JOBS_3_99: &str = include_str!("../fixtures/good_jobs_3_99.sql");
/// Makes the job table of GoodJob 4.19, with its indexes.
pub const GOOD_JOBS_4: &str = include_str!("../fixtures/good_jobs_4.sql");

/// A row of `proactivite_requests`.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRow {
    pub id: i64,
    pub datapass_authorization_id: String,
    pub datapass_demande_id: Option<i64>,
    pub siret: Option<String>,
    pub scholarship_level: Option<String>,
    pub entity_type: Option<String>,
    pub code_insee_entity: Option<String>,
    pub code_insee_communes: Option<Vec<String>>,
    pub transmission_date: Option<NaiveDate>,
    pub last_validated_at: Option<DateTime<Utc>>,
    pub status: String,
}

/// The row of `datapass_pull_watermarks`.
#[derive(Debug, Clone, PartialEq)]
pub struct WatermarkRow {
    pub definition_id: Option<String>,
    pub last_validated_at: Option<DateTime<Utc>>,
    pub skip_before: Option<DateTime<Utc>>,
}

/// A row of `datapass_pull_rejections`.
#[derive(Debug, Clone, PartialEq)]
pub struct RejectionRow {
    pub r#ref: String,
    pub demande_id: Option<i64>,
    pub datapass_authorization_id: Option<String>,
    pub reasons: Vec<String>,
    pub last_validated_at: Option<DateTime<Utc>>,
    pub first_seen_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
    pub times_seen: i64,
    pub accepted_at: Option<DateTime<Utc>>,
    pub accepted_reason: Option<String>,
    pub closed_at: Option<DateTime<Utc>>,
}

/// What a cycle writes besides its run row.
const TABLES: [&str; 5] = [
    "proactivite_requests",
    "datapass_pull_handled",
    "datapass_pull_watermarks",
    "datapass_pull_rejections",
    "good_jobs",
];

impl Database {
    /// Reads `proactivite_requests`, in the order of creation.
    pub fn requests(&self) -> Vec<RequestRow> {
        self.client()
            .query(
                "select id, datapass_authorization_id, datapass_demande_id, siret, scholarship_level,
                        entity_type, code_insee_entity, code_insee_communes, transmission_date,
                        last_validated_at, status
                 from proactivite_requests order by id",
                &[],
            )
            .unwrap()
            .iter()
            .map(|row| RequestRow {
                id: row.get("id"),
                datapass_authorization_id: row.get("datapass_authorization_id"),
                datapass_demande_id: row.get("datapass_demande_id"),
                siret: row.get("siret"),
                scholarship_level: row.get("scholarship_level"),
                entity_type: row.get("entity_type"),
                code_insee_entity: row.get("code_insee_entity"),
                code_insee_communes: row.get("code_insee_communes"),
                transmission_date: row.get("transmission_date"),
                last_validated_at: row.get("last_validated_at"),
                status: row.get("status"),
            })
            .collect()
    }

    /// Reads the watermark row, when there is one.
    pub fn watermark_row(&self) -> Option<WatermarkRow> {
        self.client()
            .query_opt(
                "select definition_id, last_validated_at, skip_before
                   from datapass_pull_watermarks",
                &[],
            )
            .unwrap()
            .map(|row| WatermarkRow {
                definition_id: row.get(0),
                last_validated_at: row.get(1),
                skip_before: row.get(2),
            })
    }

    /// Reads the handled entries: public id and validation time, ordered by public id.
    pub fn handled(&self) -> Vec<(String, Option<DateTime<Utc>>)> {
        self.client()
            .query(
                "select datapass_authorization_id, last_validated_at
                 from datapass_pull_handled order by 1",
                &[],
            )
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect()
    }

    /// Reads the watermark.
    pub fn watermark(&self) -> Option<DateTime<Utc>> {
        self.watermark_row()?.last_validated_at
    }

    /// Reads `datapass_pull_rejections`, ordered by `ref`.
    pub fn rejections(&self) -> Vec<RejectionRow> {
        self.client()
            .query(
                "select ref, demande_id, datapass_authorization_id, reasons, last_validated_at,
                        first_seen_at, last_seen_at, times_seen::bigint as times_seen, accepted_at,
                        accepted_reason, closed_at
                 from datapass_pull_rejections order by ref",
                &[],
            )
            .unwrap()
            .iter()
            .map(|row| RejectionRow {
                r#ref: row.get("ref"),
                demande_id: row.get("demande_id"),
                datapass_authorization_id: row.get("datapass_authorization_id"),
                reasons: row.get("reasons"),
                last_validated_at: row.get("last_validated_at"),
                first_seen_at: row.get("first_seen_at"),
                last_seen_at: row.get("last_seen_at"),
                times_seen: row.get("times_seen"),
                accepted_at: row.get("accepted_at"),
                accepted_reason: row.get("accepted_reason"),
                closed_at: row.get("closed_at"),
            })
            .collect()
    }

    /// Reads `datapass_pull_runs` as JSON objects, oldest first.
    pub fn runs(&self) -> Vec<Value> {
        self.json_rows("datapass_pull_runs", "id")
    }

    /// Reads `good_jobs` as JSON objects, ordered by `created_at` and id.
    pub fn jobs(&self) -> Vec<Value> {
        self.json_rows("good_jobs", "created_at, id")
    }

    /// Reads a table as JSON objects.
    pub fn json_rows(&self, table: &str, order: &str) -> Vec<Value> {
        self.client()
            .query(&format!("select to_jsonb(t) from {table} t order by {order}"), &[])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect()
    }

    /// Counts the rows of a table.
    pub fn count(&self, table: &str) -> i64 {
        self.client().query_one(&format!("select count(*) from {table}"), &[]).unwrap().get(0)
    }

    /// Returns whether a table or view exists on the search path.
    pub fn has_table(&self, table: &str) -> bool {
        self.client()
            .query_one("select to_regclass($1::text) is not null", &[&table])
            .unwrap()
            .get(0)
    }

    /// Returns how many values of the id sequence of a table are consumed.
    pub fn ids_consumed(&self, table: &str) -> i64 {
        let mut client = self.client();
        let sequence: String =
            client.query_one("select pg_get_serial_sequence($1, 'id')", &[&table]).unwrap().get(0);
        client
            .query_one(
                &format!("select case when is_called then last_value else 0 end from {sequence}"),
                &[],
            )
            .unwrap()
            .get(0)
    }

    /// Counts the dead rows of a table, those of transactions rolled back included.
    ///
    /// The contrib extension `pgstattuple` reads the pages themselves, since the statistics views
    /// lag behind. Autovacuum is off on a private cluster.
    pub fn dead_rows(&self, table: &str) -> i64 {
        let mut client = self.client();
        client
            .batch_execute("create extension if not exists pgstattuple")
            .expect("PostgreSQL's contrib modules are needed (Debian: in the package postgresql)");
        client
            .query_one("select dead_tuple_count from pgstattuple(to_regclass($1::text))", &[&table])
            .unwrap()
            .get(0)
    }

    /// Returns every row that a cycle may write, except runs, to compare before and after.
    pub fn snapshot(&self) -> BTreeMap<&'static str, Vec<String>> {
        let mut client = self.client();
        let mut tables = BTreeMap::new();
        for table in TABLES {
            let exists: bool = client
                .query_one("select to_regclass($1::text) is not null", &[&table])
                .unwrap()
                .get(0);
            if !exists {
                continue;
            }
            let rows = client
                .query(&format!("select to_jsonb(t)::text from {table} t order by 1"), &[])
                .unwrap();
            tables.insert(table, rows.iter().map(|row| row.get(0)).collect());
        }
        tables
    }
}
