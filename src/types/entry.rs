//! What a listing holds: demandes as far as a cycle needs them, valid or rejected.

use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};

use super::{AuthorizationId, DemandeId, Invalid, Perimeter, ScholarshipLevel, Siret};

/// Identifies an element: a demande has the same key on every page that lists it.
///
/// Its `Display` is what a rejection is recorded under: `D5`, a public id, or 32 hexadecimal digits. No
/// two keys of a listing have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The demande's number.
    Id(DemandeId),
    /// Its public id, when the number cannot be read and the public id looks like no number.
    Public(AuthorizationId),
    /// When there is neither, the first halves of two SHA-256: of its text, and of its creation time, which
    /// stays as it is while the text changes.
    Digest {
        /// Identifies it in a listing.
        text: [u8; 16],
        /// Is shown.
        stable: [u8; 16],
    },
}

impl Key {
    /// Returns the demande's number, if that is what identifies it.
    pub fn demande_id(&self) -> Option<DemandeId> {
        match self {
            Self::Id(id) => Some(*id),
            Self::Public(_) | Self::Digest { .. } => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Public(id) => f.write_str(id.as_str()),
            Self::Digest { stable, .. } => {
                stable.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
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

/// A demande of the wanted definition, or of one that cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Whether the definition can be read, and so is the wanted one.
    pub of_definition: bool,
    /// What a row is made of, or why there can be none.
    pub body: Result<Valid, Rejected>,
}

impl Entry {
    /// Returns the public id, which may be readable although the rest is not.
    pub fn authorization_id(&self) -> Option<&AuthorizationId> {
        match &self.body {
            Ok(valid) => Some(&valid.authorization_id),
            Err(rejected) => rejected.authorization_id.as_ref(),
        }
    }
}

/// The `last_validated_at` of a demande, to the microsecond: none when it is absent, and an error when
/// it cannot be read, which rejects the entry.
pub type ValidatedAt = Result<Option<DateTime<Utc>>, Invalid>;

/// What a row is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Valid {
    /// `public_id`.
    pub authorization_id: AuthorizationId,
    /// `id`.
    pub demande_id: DemandeId,
    /// `organisation.siret`.
    pub siret: Siret,
    /// `data.niveau_bourse_min`, or `data.echelon_bourse` when that is blank.
    pub level: ScholarshipLevel,
    /// `data.entity_type`, `code_insee_entity` and `manual_code_insee_communes`.
    pub perimeter: Perimeter,
    /// `data.premiere_date_transmission`.
    pub transmission_date: Option<NaiveDate>,
}

/// Why an entry can have no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The public id, when it can be read.
    pub authorization_id: Option<AuthorizationId>,
    /// Every fault that was found; at least one.
    pub faults: Vec<Fault>,
}

impl Rejected {
    /// Returns field and rule of each fault.
    pub fn reasons(&self) -> Vec<String> {
        self.faults.iter().map(ToString::to_string).collect()
    }
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

/// A listed demande of the definition, or of one that cannot be read.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What identifies it.
    pub key: Key,
    /// The key's string, under which a rejection is recorded.
    pub reference: String,
    /// When it was validated last.
    pub last_validated_at: ValidatedAt,
    /// What it holds.
    pub entry: Entry,
}

impl Listed {
    /// Takes an element; none when it is of another definition.
    pub fn new(element: Element) -> Option<Self> {
        let reference = element.key.to_string();
        element.entry.map(|entry| Self {
            key: element.key,
            reference,
            last_validated_at: element.last_validated_at,
            entry,
        })
    }

    /// Returns when it was validated last, if that can be read.
    pub fn time(&self) -> Option<DateTime<Utc>> {
        self.last_validated_at.ok().flatten()
    }

    /// Returns its public id, if that can be read.
    pub fn public_id(&self) -> Option<&str> {
        self.entry.authorization_id().map(AuthorizationId::as_str)
    }

    /// Rejects it for another fault, which leaves it without a public id.
    pub fn reject(&mut self, fault: Fault) {
        let mut faults = match &mut self.entry.body {
            Ok(_) => Vec::new(),
            Err(rejected) => std::mem::take(&mut rejected.faults),
        };
        faults.push(fault);
        self.entry.body = Err(Rejected { authorization_id: None, faults });
    }
}
