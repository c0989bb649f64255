//! One element of a page: what identifies it, and what a row is made of or why there is none.

use std::borrow::Cow;

use chrono::NaiveDate;
use serde::de::{Deserialize, DeserializeSeed, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::members::{Members, Pick};
use crate::types::entry::{Element, Entry, Fault, Key, Rejected, Valid, ValidatedAt};
use crate::types::time::{parse_date, parse_instant};
use crate::types::{
    AuthorizationId, DemandeId, Entity, EntityType, Invalid, Perimeter, ScholarshipLevel, Siret,
};

/// The members of a demande that matter, not yet validated.
pub(super) struct Demande<'a>(Members<'a, 9>);

impl<'de> Deserialize<'de> for Demande<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const NAMES: [&str; 9] = [
            "id",
            "public_id",
            "definition_id",
            "state",
            "created_at",
            "last_validated_at",
            "organisation",
            "data",
            "habilitations",
        ];
        Pick(&NAMES).deserialize(deserializer).map(Self)
    }
}

/// Returns the key of a demande; `stable` is what identifies one without an id: its `created_at`,
/// which never changes, so that a changed text is not another demande.
fn key_of(id: Option<DemandeId>, public_id: Option<&RawValue>, stable: &str) -> Key {
    if let Some(id) = id {
        return Key::Id(id);
    }
    let looks_like_a_number = |it: &AuthorizationId| it.as_str().parse::<DemandeId>().is_ok();
    match required(written(public_id), str::parse) {
        Ok(public_id) if !looks_like_a_number(&public_id) => Key::Public(public_id),
        _ => digest(stable),
    }
}

fn digest(text: &str) -> Key {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let mut half = [0; 16];
    half.iter_mut()
        .zip(digest.as_ref())
        .for_each(|(to, from)| *to = *from);
    Key::Digest(half)
}

/// Validates an element: its members, unless it cannot be read as an object, and its text.
pub(super) fn read(demande: Option<Demande<'_>>, text: &str, wanted: &str) -> Element {
    let Some(Demande(members)) = demande else {
        return unreadable(text);
    };
    let [
        id,
        public_id,
        definition_id,
        state,
        created_at,
        last_validated_at,
        organisation,
        data,
        habilitations,
    ] = members;
    let mut faults = Faults(Vec::new());
    let demande_id = faults.keep("id", read_id(id));
    let created_at = faults.keep("created_at", required(written(created_at), parse_instant));
    let stable = created_at.map(|time| time.to_rfc3339());
    let key = key_of(demande_id, public_id, stable.as_deref().unwrap_or(text));
    let definition = faults.keep("definition_id", required(filled(definition_id), is(wanted)));
    let validated = optional(written(last_validated_at), parse_instant);
    let last_validated_at = match validated {
        Ok(Some(time)) => ValidatedAt::At(time),
        Ok(None) => ValidatedAt::Never,
        Err(_) => ValidatedAt::Unreadable,
    };
    if definition == Some(false) {
        return Element {
            key,
            created_at,
            last_validated_at,
            entry: None,
        };
    }

    let authorization_id = faults.keep("public_id", required(written(public_id), str::parse));
    faults.keep("last_validated_at", validated);
    let state = required(written(state), is("validated"));
    if faults.keep("state", state) == Some(false) {
        faults.note("state", "not validated");
    }
    if !faults
        .keep("habilitations", is_approved(habilitations, wanted))
        .unwrap_or(true)
    {
        faults.note("habilitations", "none active");
    }
    let siret = faults.siret(organisation);
    let data = faults.data(data);
    let body = match (authorization_id, demande_id, siret, data) {
        (
            Some(authorization_id),
            Some(demande_id),
            Some(siret),
            Some((level, perimeter, transmission_date)),
        ) if faults.0.is_empty() => Ok(Valid {
            authorization_id,
            demande_id,
            siret,
            level,
            perimeter,
            transmission_date,
        }),
        (authorization_id, ..) => Err(Rejected {
            authorization_id,
            faults: faults.0,
        }),
    };
    Element {
        key,
        created_at,
        last_validated_at,
        entry: Some(Entry {
            of_definition: definition.is_some(),
            body,
        }),
    }
}

/// Makes the element of a text that is no object, or one with a name that is no Unicode text.
fn unreadable(text: &str) -> Element {
    let rule = if text.starts_with('{') {
        "unreadable name"
    } else {
        "not an object"
    };
    Element {
        key: digest(text),
        created_at: None,
        last_validated_at: ValidatedAt::Unreadable,
        entry: Some(Entry {
            of_definition: false,
            body: Err(Rejected {
                authorization_id: None,
                faults: vec![Fault {
                    field: "element",
                    rule,
                }],
            }),
        }),
    }
}

/// The faults found so far.
struct Faults(Vec<Fault>);

impl Faults {
    fn note(&mut self, field: &'static str, rule: &'static str) {
        self.0.push(Fault { field, rule });
    }

    /// Takes what was read, or notes the rule that it breaks.
    fn keep<T>(&mut self, field: &'static str, read: Result<T, Invalid>) -> Option<T> {
        read.map_err(|Invalid(rule)| self.note(field, rule)).ok()
    }

    fn siret(&mut self, organisation: Option<&RawValue>) -> Option<Siret> {
        let [siret] = self.keep("organisation", read_members(organisation, &["siret"]))?;
        self.keep("siret", required(written(siret), str::parse))
    }

    fn data(
        &mut self,
        data: Option<&RawValue>,
    ) -> Option<(ScholarshipLevel, Perimeter, Option<NaiveDate>)> {
        const DATE: &str = "data.premiere_date_transmission";
        let [niveau, echelon, entity_type, code, communes, date] = self.keep(
            "data",
            read_members(
                data,
                &[
                    "niveau_bourse_min",
                    "echelon_bourse",
                    "entity_type",
                    "code_insee_entity",
                    "manual_code_insee_communes",
                    "premiere_date_transmission",
                ],
            ),
        )?;
        let level = match filled(niveau) {
            Ok(None) => self.keep("data.echelon_bourse", required(filled(echelon), str::parse)),
            niveau => self.keep("data.niveau_bourse_min", required(niveau, str::parse)),
        };
        let perimeter = self.perimeter(entity_type, code, communes);
        let date = self.keep(DATE, optional(filled(date), parse_date));
        Some((level?, perimeter?, date?))
    }

    /// Reads the perimeter. DataPass validates communes typed by hand only where there is no entity:
    /// beside one they are kept where they are valid. A code without its type is ignored.
    fn perimeter(
        &mut self,
        entity_type: Option<&RawValue>,
        code: Option<&RawValue>,
        communes: Option<&RawValue>,
    ) -> Option<Perimeter> {
        const TYPE: &str = "data.entity_type";
        const CODE: &str = "data.code_insee_entity";
        const COMMUNES: &str = "data.manual_code_insee_communes";
        let kind: Option<EntityType> =
            self.keep(TYPE, optional(filled(entity_type), str::parse))?;
        let codes = read_codes(communes);
        let Some(kind) = kind else {
            let communes = codes.and_then(|codes| codes.iter().map(|code| code.parse()).collect());
            let communes = self.keep(COMMUNES, communes)?;
            return self.keep(TYPE, Perimeter::new(None, communes));
        };
        let entity = required(filled(code), |code| Entity::new(kind, code));
        let entity = self.keep(CODE, entity)?;
        let codes = codes.unwrap_or_default();
        let valid = codes.iter().filter_map(|code| code.parse().ok()).collect();
        self.keep(TYPE, Perimeter::new(Some(entity), valid))
    }
}

/// A member that should be a string; `None` when it is absent or null.
type Written<'a> = Result<Option<Cow<'a, str>>, Invalid>;

fn written(raw: Option<&RawValue>) -> Written<'_> {
    let Some(raw) = raw.map(RawValue::get).filter(|raw| *raw != "null") else {
        return Ok(None);
    };
    match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Some(plain.into())),
        // Fails on an escape of half a surrogate pair, which is not Unicode.
        _ => match serde_json::from_str::<String>(raw) {
            Ok(text) => Ok(Some(text.into())),
            Err(_) => Err(Invalid("not a text")),
        },
    }
}

/// Reads a member that should be a string; `None` when it is absent, null or blank.
fn filled(raw: Option<&RawValue>) -> Written<'_> {
    written(raw).map(|text| text.filter(|text| !text.trim().is_empty()))
}

fn required<T>(
    text: Written<'_>,
    read: impl FnOnce(&str) -> Result<T, Invalid>,
) -> Result<T, Invalid> {
    text?.map_or(Err(Invalid("missing")), |text| read(&text))
}

fn optional<T>(
    text: Written<'_>,
    read: impl FnOnce(&str) -> Result<T, Invalid>,
) -> Result<Option<T>, Invalid> {
    text?.map(|text| read(&text)).transpose()
}

/// Compares a string with a wanted one.
fn is(wanted: &str) -> impl FnOnce(&str) -> Result<bool, Invalid> {
    move |text| Ok(text == wanted)
}

fn read_id(raw: Option<&RawValue>) -> Result<DemandeId, Invalid> {
    let raw = raw.ok_or(Invalid("missing"))?;
    match serde_json::from_str::<Option<i64>>(raw.get()) {
        Ok(Some(id)) => DemandeId::try_from(id),
        Ok(None) => Err(Invalid("missing")),
        Err(_) => Err(Invalid("not an integer")),
    }
}

fn read_members<'a, const N: usize>(
    raw: Option<&'a RawValue>,
    names: &'static [&'static str; N],
) -> Result<Members<'a, N>, Invalid> {
    match raw {
        Some(raw) if raw.get() != "null" => Pick(names)
            .read(raw)
            .ok_or(Invalid("not a readable object")),
        _ => Err(Invalid("missing")),
    }
}

/// Returns whether a demande is approved: a reopening that was cancelled after a revocation leaves it
/// `validated` with habilitations of which none is active.
///
/// One without a readable `definition_id` counts as of the definition, and one without a readable
/// `state` as active.
fn is_approved(raw: Option<&RawValue>, wanted: &str) -> Result<bool, Invalid> {
    let Some(raw) = raw.map(RawValue::get).filter(|raw| *raw != "null") else {
        return Ok(true);
    };
    let all: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| Invalid("not a list"))?;
    let is = |raw, wanted: &str| {
        written(raw)
            .ok()
            .flatten()
            .is_none_or(|text| text == wanted)
    };
    let members = |raw| {
        Pick(&["definition_id", "state"])
            .read(raw)
            .unwrap_or_default()
    };
    let mut of_definition = all
        .into_iter()
        .map(members)
        .filter(|[definition_id, _]| is(*definition_id, wanted))
        .peekable();
    Ok(of_definition.peek().is_none() || of_definition.any(|[_, state]| is(state, "active")))
}

/// Reads the codes typed by hand: a list, or a list written as JSON in a string. Blank items, which
/// forms send along, are left out, and what is not a string is no valid code.
fn read_codes(raw: Option<&RawValue>) -> Result<Vec<String>, Invalid> {
    let list = match raw {
        Some(raw) if raw.get().starts_with('[') => Some(Cow::Borrowed(raw.get())),
        raw => filled(raw)?,
    };
    let list = list.as_deref().unwrap_or("null");
    let items: Option<Vec<Value>> =
        serde_json::from_str(list).map_err(|_| Invalid("not a list of codes"))?;
    let items = items.unwrap_or_default().into_iter();
    let codes = items.filter_map(|item| match item {
        Value::Null => None,
        Value::String(code) => Some(code),
        // Whatever it is, it is not a code.
        _ => Some("not a string".to_owned()),
    });
    Ok(codes.filter(|code| !code.trim().is_empty()).collect())
}
