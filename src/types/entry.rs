//! What a listing holds: demandes as far as a cycle needs them, valid or rejected.

use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};

use super::{AuthorizationId, DemandeId, Invalid, Perimeter, ScholarshipLevel, Siret};

/// Identifies an element: a demande has the same key on every page that lists it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// The demande's number.
    Id(DemandeId),
    /// Its public id, when the number cannot be read and the public id looks like no number.
    Public(AuthorizationId),
    /// When there is neither, the first half of the SHA-256 of its text.
    Text([u8; 16]),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Public(id) => f.write_str(id.as_str()),
            Self::Text(digest) => digest.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// One element of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    /// What identifies it.
    pub key: Key,
    /// When it was created, which orders the listing; `None` when that cannot be read.
    pub created_at: Option<DateTime<Utc>>,
    /// When it was validated last: another time at each return to the listing.
    pub last_validated_at: ValidatedAt,
    /// What it holds, unless it is of another definition.
    pub entry: Option<Entry>,
}

/// The `last_validated_at` of a demande, to the microsecond: none when it is absent, and an error when
/// it cannot be read, which rejects the entry.
pub type ValidatedAt = Result<Option<DateTime<Utc>>, Invalid>;

/// A demande of the wanted definition, or of one that cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What a rejection is recorded under: `D5`, a public id, or 32 hexadecimal digits, which stay as
    /// they are while the text changes. No two entries of a listing have the same.
    pub reference: String,
    /// `id`, which a valid entry has.
    pub demande_id: Option<DemandeId>,
    /// `public_id`, which a valid entry has.
    pub authorization_id: Option<AuthorizationId>,
    /// When it was validated last.
    pub last_validated_at: ValidatedAt,
    /// Whether the definition can be read, and so is the wanted one.
    pub of_definition: bool,
    /// What else a row is made of, or every fault that was found; at least one.
    pub body: Result<Body, Vec<Fault>>,
}

impl Entry {
    /// Returns when it was validated last, if that can be read.
    pub fn time(&self) -> Option<DateTime<Utc>> {
        self.last_validated_at.ok().flatten()
    }

    /// Returns its public id, if that can be read.
    pub fn public_id(&self) -> Option<&str> {
        self.authorization_id.as_ref().map(AuthorizationId::as_str)
    }

    /// Returns field and rule of each fault; none of a valid entry.
    pub fn reasons(&self) -> Vec<String> {
        self.body.as_ref().err().into_iter().flatten().map(Fault::to_string).collect()
    }

    /// Rejects it for another fault, which leaves it without a public id.
    pub fn reject(&mut self, fault: Fault) {
        self.authorization_id = None;
        match &mut self.body {
            Ok(_) => self.body = Err(vec![fault]),
            Err(faults) => faults.push(fault),
        }
    }
}

/// What a row is made of, beside the ids and the time of validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// `organisation.siret`.
    pub siret: Siret,
    /// `data.niveau_bourse_min`, or `data.echelon_bourse` when that is blank.
    pub level: ScholarshipLevel,
    /// `data.entity_type`, `code_insee_entity` and `manual_code_insee_communes`.
    pub perimeter: Perimeter,
    /// `data.premiere_date_transmission`.
    pub transmission_date: Option<NaiveDate>,
}

/// A field and the rule that it breaks, shown as `siret: checksum`; never a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fault {
    /// The field, with its path inside the demande where it needs one.
    pub field: &'static str,
    /// The rule.
    pub rule: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.rule)
    }
}
