//! A demande in DataPass's format, with a canary in each field of personal data.

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, TimeDelta, Utc, Weekday};
use serde_json::{Map, Value, json};

/// The definition that the tool pulls by default.
pub const DEFINITION: &str = "proactivite_pour_les_etudiants_boursiers_dyn";

/// A word in lower case that all personal data, the client secret and all tokens contain: if an
/// output contains it, private data leaked.
pub const CANARY: &str = "canari";

/// Reads a time in RFC 3339.
pub fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_utc()
}

/// Returns the instant `minutes` after the start time that most tests use.
pub fn minute(minutes: i64) -> DateTime<Utc> {
    at("2026-05-18T10:00:00.123Z") + TimeDelta::minutes(minutes)
}

/// Makes a demande of the definition that was validated at a [`minute`].
pub fn validated(id: i64, minutes: i64) -> Demande {
    Demande::cnous(id).validated(minute(minutes))
}

/// Formats a time as DataPass does: Paris time, truncated to the millisecond, with its offset.
pub fn paris(time: DateTime<Utc>) -> String {
    // Summer time is from 01:00 UTC of March's last Sunday to 01:00 UTC of October's
    // (Directive 2000/84/EC, articles 2 and 3).
    let change = |month| {
        let last = NaiveDate::from_ymd_opt(time.year(), month, 31).unwrap();
        last.week(Weekday::Sun).first_day().and_hms_opt(1, 0, 0).unwrap().and_utc()
    };
    let hours = if change(3) <= time && time < change(10) { 2 } else { 1 };
    let zone = FixedOffset::east_opt(hours * 3600).unwrap();
    time.with_timezone(&zone).format("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

/// Makes a SIRET with a valid check digit from a number below 10^13.
pub fn siret(number: u64) -> String {
    let body = format!("{number:013}");
    // Luhn: every second digit from the right is doubled, starting with the one before the check
    // digit.
    let sum: u32 = body
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0') * if place % 2 == 0 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    format!("{body}{}", (10 - sum % 10) % 10)
}

/// A demande to add to the fake DataPass; valid unless a test changes it.
#[derive(Debug, Clone)]
pub struct Demande {
    pub id: i64,
    pub public_id: Option<String>,
    pub definition_id: String,
    pub state: String,
    pub created_at: DateTime<Utc>,
    pub last_validated_at: Option<DateTime<Utc>>,
    pub siret: String,
    pub data: Map<String, Value>,
    /// The approximate size of `organisation.insee_payload`, in bytes.
    pub insee_bytes: usize,
}

impl Demande {
    /// Makes a valid demande of [`DEFINITION`] for a commune: created `id` minutes after
    /// 2026-01-05T08:00:00.250Z, validated a day later.
    pub fn cnous(id: i64) -> Self {
        let created_at = at("2026-01-05T08:00:00.250Z") + TimeDelta::minutes(id);
        let data = json!({
            "echelon_bourse": "3",
            "entity_type": "commune",
            "code_insee_entity": "69123",
            "premiere_date_transmission": "2026-09-01",
            "contact_metier_email": "contact-canari@example.test",
            "contact_metier_given_name": "Camille-Canari",
            "contact_metier_family_name": "Canari-Métier",
            "contact_metier_job_title": "Responsable canari",
            "contact_metier_phone_number": "0600canari",
        });
        let Value::Object(data) = data else { unreachable!("an object was written above") };
        Self {
            id,
            public_id: Some(format!("{id:08x}-0000-4000-8000-{id:012x}")),
            definition_id: DEFINITION.to_owned(),
            state: "validated".to_owned(),
            created_at,
            last_validated_at: Some(created_at + TimeDelta::days(1)),
            siret: siret(2_000_000_000_000 + id.unsigned_abs()),
            data,
            insee_bytes: 300,
        }
    }

    /// Makes a valid demande of another definition that the account may access.
    pub fn other(id: i64) -> Self {
        let mut demande = Self::cnous(id).definition("api_particulier");
        let data = json!({"intitule": "Portail canari", "scopes": "[\"cnaf_quotient_familial\"]"});
        let Value::Object(data) = data else { unreachable!("an object was written above") };
        demande.data = data;
        demande
    }

    /// Sets the time of creation, which decides the position in the listing.
    pub fn created(mut self, time: DateTime<Utc>) -> Self {
        self.created_at = time;
        self
    }

    /// Sets the time of the last validation.
    pub fn validated(mut self, time: DateTime<Utc>) -> Self {
        self.last_validated_at = Some(time);
        self
    }

    /// Sets the time of the last validation to null.
    pub fn never_validated(mut self) -> Self {
        self.last_validated_at = None;
        self
    }

    /// Sets the public id, or sets it to null.
    pub fn public_id(mut self, id: Option<&str>) -> Self {
        self.public_id = id.map(str::to_owned);
        self
    }

    /// Sets the definition.
    pub fn definition(mut self, id: &str) -> Self {
        self.definition_id = id.to_owned();
        self
    }

    /// Sets the state.
    pub fn state(mut self, state: &str) -> Self {
        self.state = state.to_owned();
        self
    }

    /// Sets the organisation's SIRET.
    pub fn siret(mut self, siret: &str) -> Self {
        self.siret = siret.to_owned();
        self
    }

    /// Sets a key of `data`.
    pub fn data(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.data.insert(key.to_owned(), value.into());
        self
    }

    /// Removes a key of `data`.
    pub fn without(mut self, key: &str) -> Self {
        self.data.remove(key);
        self
    }

    /// Serializes it as the API does.
    pub fn to_json(&self) -> Value {
        let id = self.id;
        let validated = self.last_validated_at.map(paris);
        let mut events = vec![
            json!({"id": id * 10 + 1, "name": "create", "created_at": paris(self.created_at)}),
            json!({"id": id * 10 + 2, "name": "submit", "created_at": paris(self.created_at)}),
        ];
        if let Some(time) = &validated {
            events.push(json!({"id": id * 10 + 3, "name": "approve", "created_at": time}));
        }
        json!({
            "id": id,
            "public_id": self.public_id,
            "type": "AuthorizationRequest::ProactiviteEtudiantsBoursiers",
            "definition_id": self.definition_id,
            "form_uid": "proactivite-pour-les-etudiants-boursiers",
            "state": self.state,
            "data": self.data,
            "created_at": paris(self.created_at),
            "last_submitted_at": paris(self.created_at),
            "last_validated_at": validated,
            "reopening": false,
            "reopened_at": null,
            "organisation": {
                "id": 7000 + id,
                "siret": self.siret,
                "insee_payload": {"etablissement": {
                    "siret": self.siret,
                    "denomination": "canari ".repeat(self.insee_bytes / 7),
                }},
            },
            "applicant": {
                "id": 9000 + id,
                "email": "jeanne.canari@example.test",
                "given_name": "Jeanne-Canari",
                "family_name": "D'Ôcanari",
                "phone_number": "+336canari",
            },
            "habilitations": [{
                "id": 5000 + id,
                "slug": format!("habilitation-{id}"),
                "revoked": false,
                "state": "active",
                "created_at": validated,
                "data": self.data,
                "authorization_request_class":
                    "AuthorizationRequest::ProactiviteEtudiantsBoursiers",
                "definition_id": self.definition_id,
            }],
            "events": events,
        })
    }
}
