//! One element of a page: what identifies it, and what a row is made of or why there is none.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::types::entry::{Body, Element, Entry, Fault, Key};
use crate::types::time::{parse_date, parse_instant};
use crate::types::{AuthorizationId, DemandeId, Entity, EntityType, Invalid, Perimeter};

/// How many members a demande has, for a start.
const USUAL_MEMBERS: usize = 24;

/// The members of an object as raw text, in their order.
#[derive(Default)]
pub(super) struct Members<'a>(Vec<(Name<'a>, &'a RawValue)>);

/// A member's name, borrowed where it has no escape. One that is not Unicode (an escape of half a
/// surrogate pair) makes its object unreadable.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Members<'a> {
    /// Returns a member; `None` when it is absent or null. Of several with the same name the last one
    /// counts.
    fn get(&self, name: &str) -> Option<&'a str> {
        let mut members = self.0.iter().rev();
        let member = members.find(|(it, _)| it.0 == name);
        member.map(|(_, raw)| raw.get()).filter(|raw| *raw != "null")
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(Vec::with_capacity(USUAL_MEMBERS)))
    }
}

impl<'de> Visitor<'de> for Members<'de> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(member) = map.next_entry()? {
            self.0.push(member);
        }
        Ok(self)
    }
}

fn digest(text: &str) -> [u8; 16] {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Reads an element: its members, unless it cannot be read as an object, and its text.
pub(super) fn read(members: Option<Members<'_>>, text: &str, wanted: &str) -> Element {
    let Some(demande) = members else {
        return unreadable(text);
    };
    let mut faults = Faults(Vec::new());
    let demande_id = json::<i64>(demande.get("id"), "not an integer");
    let demande_id = faults.keep("id", demande_id.and_then(DemandeId::try_from));
    let created_at = required(written(demande.get("created_at")), parse_instant);
    let created_at = faults.keep("created_at", created_at);
    let is_wanted = required(filled(demande.get("definition_id")), |id| Ok(id == wanted));
    let is_wanted = faults.keep("definition_id", is_wanted);
    let authorization_id = required(written(demande.get("public_id")), str::parse);
    let authorization_id = faults.keep("public_id", authorization_id);
    let last_validated_at = optional(written(demande.get("last_validated_at")), parse_instant);
    let looks_like_a_number = |it: &AuthorizationId| it.as_str().parse::<DemandeId>().is_ok();
    let key = match (demande_id, &authorization_id) {
        (Some(id), _) => Key::Id(id),
        (None, Some(id)) if !looks_like_a_number(id) => Key::Public(id.clone()),
        _ => Key::Text(digest(text)),
    };
    if is_wanted == Some(false) {
        return Element { key, created_at, last_validated_at, entry: None };
    }

    faults.keep("last_validated_at", last_validated_at);
    let require_validated = |text: &str| match text {
        "validated" => Ok(()),
        _ => Err(Invalid("not validated")),
    };
    faults.keep("state", required(written(demande.get("state")), require_validated));
    faults.keep("habilitations", require_approved(demande.get("habilitations"), wanted));
    let body = faults.body(&demande);
    let entry = Entry {
        // `created_at` never changes, so that a changed text does not change the reference.
        reference: match (&key, created_at) {
            (Key::Text(_), Some(time)) => Key::Text(digest(&time.to_rfc3339())).to_string(),
            _ => key.to_string(),
        },
        demande_id,
        authorization_id,
        last_validated_at,
        of_definition: is_wanted.is_some(),
        body: body.filter(|_| faults.0.is_empty()).ok_or(faults.0),
    };
    Element { key, created_at, last_validated_at, entry: Some(entry) }
}

/// Makes the element of a text that is not an object, or one with a name that is not Unicode.
fn unreadable(text: &str) -> Element {
    let key = Key::Text(digest(text));
    let rule = if text.starts_with('{') { "unreadable name" } else { "not an object" };
    let last_validated_at = Err(Invalid("unreadable"));
    let entry = Entry {
        reference: key.to_string(),
        demande_id: None,
        authorization_id: None,
        last_validated_at,
        of_definition: false,
        body: Err(vec![Fault { field: "element", rule }]),
    };
    Element { key, created_at: None, last_validated_at, entry: Some(entry) }
}

/// The faults found so far.
struct Faults(Vec<Fault>);

impl Faults {
    /// Takes what was read, or notes the rule that it breaks.
    fn keep<T>(&mut self, field: &'static str, read: Result<T, Invalid>) -> Option<T> {
        read.map_err(|Invalid(rule)| self.0.push(Fault { field, rule })).ok()
    }

    fn object<'a>(&mut self, name: &'static str, demande: &Members<'a>) -> Option<Members<'a>> {
        self.keep(name, json(demande.get(name), "not a readable object"))
    }

    fn body(&mut self, demande: &Members<'_>) -> Option<Body> {
        let siret = self.object("organisation", demande).and_then(|organisation| {
            self.keep("siret", required(written(organisation.get("siret")), str::parse))
        });
        let data = self.object("data", demande)?;
        let level = match filled(data.get("niveau_bourse_min")) {
            Ok(None) => {
                let level = required(filled(data.get("echelon_bourse")), str::parse);
                self.keep("data.echelon_bourse", level)
            }
            level => self.keep("data.niveau_bourse_min", required(level, str::parse)),
        };
        let perimeter = self.perimeter(&data);
        let date = optional(filled(data.get("premiere_date_transmission")), parse_date);
        let date = self.keep("data.premiere_date_transmission", date);
        Some(Body { siret: siret?, level: level?, perimeter: perimeter?, transmission_date: date? })
    }

    /// Reads the perimeter. DataPass validates communes typed by hand only where there is no entity:
    /// beside one they are kept where they are valid. A code without its type is ignored.
    fn perimeter(&mut self, data: &Members<'_>) -> Option<Perimeter> {
        const TYPE: &str = "data.entity_type";
        let kind: Option<EntityType> =
            self.keep(TYPE, optional(filled(data.get("entity_type")), str::parse))?;
        let codes = read_codes(data.get("manual_code_insee_communes"));
        let Some(kind) = kind else {
            let communes = codes.and_then(|codes| codes.iter().map(|code| code.parse()).collect());
            let communes = self.keep("data.manual_code_insee_communes", communes)?;
            return self.keep(TYPE, Perimeter::new(None, communes));
        };
        let entity =
            required(filled(data.get("code_insee_entity")), |code| Entity::new(kind, code));
        let entity = self.keep("data.code_insee_entity", entity)?;
        let codes = codes.unwrap_or_default();
        let valid = codes.iter().filter_map(|code| code.parse().ok()).collect();
        self.keep(TYPE, Perimeter::new(Some(entity), valid))
    }
}

/// A member that should be a string; `None` when it is absent or null.
type Written<'a> = Result<Option<Cow<'a, str>>, Invalid>;

fn written(raw: Option<&str>) -> Written<'_> {
    let Some(raw) = raw else {
        return Ok(None);
    };
    match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Some(plain.into())),
        // Fails on an escape of half a surrogate pair, which is not Unicode.
        _ => json::<String>(Some(raw), "not a text").map(|text| Some(text.into())),
    }
}

/// Reads a member that should be a string; `None` when it is absent, null or blank.
fn filled(raw: Option<&str>) -> Written<'_> {
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

/// Reads a member of a type; `rule` is what a value of another one breaks.
fn json<'a, T: Deserialize<'a>>(raw: Option<&'a str>, rule: &'static str) -> Result<T, Invalid> {
    let raw = raw.ok_or(Invalid("missing"))?;
    serde_json::from_str(raw).map_err(|_| Invalid(rule))
}

/// Refuses a demande that is not approved: a reopening that was cancelled after a revocation leaves it
/// `validated` with habilitations of which none is active.
///
/// One without a readable `definition_id` counts as of the definition, and one without a readable
/// `state` as active.
fn require_approved(raw: Option<&str>, wanted: &str) -> Result<(), Invalid> {
    if raw.is_none() {
        return Ok(());
    }
    // In one go, unless an item is not an object.
    let all: Vec<Members<'_>> = json(raw, "").or_else(|_| {
        let items: Vec<&RawValue> = json(raw, "not a list")?;
        let items = items.into_iter().map(RawValue::get);
        Ok(items.map(|item| serde_json::from_str(item).unwrap_or_default()).collect())
    })?;
    let is_or_unreadable = |members: &Members<'_>, name: &str, wanted: &str| {
        let text = filled(members.get(name)).ok().flatten();
        text.is_none_or(|text| text == wanted)
    };
    let of_definition = all.iter().filter(|it| is_or_unreadable(it, "definition_id", wanted));
    let are_active = of_definition.map(|it| is_or_unreadable(it, "state", "active"));
    let are_active: Vec<bool> = are_active.collect();
    match are_active.is_empty() || are_active.contains(&true) {
        true => Ok(()),
        false => Err(Invalid("none active")),
    }
}

/// Reads the codes typed by hand: a list, or a list written as JSON in a string. Blank items, which
/// forms send along, are left out, and what is not a string is no valid code.
fn read_codes(raw: Option<&str>) -> Result<Vec<String>, Invalid> {
    let list = match raw {
        Some(raw) if raw.starts_with('[') => Some(raw.into()),
        raw => filled(raw)?,
    };
    let list = list.as_deref().unwrap_or("null");
    let items: Option<Vec<Value>> = json(Some(list), "not a list of codes")?;
    let codes = items.unwrap_or_default().into_iter().map(|item| match item {
        Value::Null => String::new(),
        Value::String(code) => code,
        // Whatever it is, it is not a code.
        _ => "not a string".to_owned(),
    });
    Ok(codes.filter(|code| !code.trim().is_empty()).collect())
}
