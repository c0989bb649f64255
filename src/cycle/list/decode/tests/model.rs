//! Random pages, valid and damaged, read in chunks of any size and compared with a naive decoder
//! that parses the whole document.

use std::io::{self, ErrorKind, Read};

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::buffer::Buffer;
use super::super::{BodyError, Element, Page};
use super::WANTED;
use crate::types::time::{parse_date, parse_instant};
use crate::types::{CommuneCode, Entity, EntityType};

/// The content of an element as strings: reference, or the key of one without entry, creation time,
/// and for an entry its validation time and its row or invalid fields.
type Said =
    (String, Option<DateTime<Utc>>, Option<(Option<DateTime<Utc>>, Result<String, Vec<String>>)>);

fn said(element: &Element) -> Said {
    let entry = element.entry.as_ref().map(|entry| {
        let body = match &entry.body {
            Ok(row) => Ok(format!(
                "{} {} {} {} {:?} {:?} {:?}",
                entry.public_id().unwrap(),
                entry.demande_id.unwrap(),
                row.siret,
                row.level.as_str(),
                row.perimeter.entity(),
                row.perimeter.communes(),
                row.transmission_date,
            )),
            Err(faults) => Err(faults.iter().map(|fault| fault.field.to_owned()).collect()),
        };
        (element.last_validated_at.ok().flatten(), body)
    });
    let reference = element.entry.as_ref().map(|entry| entry.reference.clone());
    (reference.unwrap_or_else(|| element.key.to_string()), element.created_at, entry)
}

/// The naive decoder: parses the document, then looks up each field.
fn naive(raw: &RawValue) -> Option<Said> {
    // Fails on valid JSON that `Value` cannot represent: such elements are not compared.
    let value: Value = serde_json::from_str(raw.get()).ok()?;
    let instant = |name: &str| value[name].as_str().and_then(|text| parse_instant(text).ok());
    let id = value["id"].as_i64().filter(|id| *id > 0);
    let public_id = value["public_id"].as_str().filter(|text| {
        !text.trim().is_empty()
            && text.chars().count() <= 200
            && !text.chars().any(char::is_control)
    });
    let created = instant("created_at").map(|time| time.to_rfc3339());
    let stable = created.as_deref().unwrap_or(raw.get());
    let digest = |text: &str| {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let is_number = |text: &&str| {
        let digits = text.strip_prefix('D').unwrap_or(text);
        digits.bytes().all(|byte| byte.is_ascii_digit())
            && digits.parse::<i64>().is_ok_and(|number| number > 0)
    };
    let key = id
        .map(|id| format!("D{id}"))
        .or(public_id.filter(|text| !is_number(text)).map(str::to_owned));
    let reference = key.clone().unwrap_or_else(|| digest(stable));
    if !value.is_object() {
        return Some((reference, None, Some((None, Err(vec!["element".to_owned()])))));
    }
    let created_at = instant("created_at");
    let blank = |value: &Value| {
        value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty())
    };
    let definition = Some(&value["definition_id"]).filter(|value| !blank(value));
    let definition = definition.and_then(Value::as_str);
    if definition.is_some_and(|definition| definition != WANTED) {
        return Some((key.unwrap_or_else(|| digest(raw.get())), created_at, None));
    }

    let mut bad: Vec<String> = Vec::new();
    let mut check = |field: &str, good: bool| {
        if !good {
            bad.push(field.to_owned());
        }
    };
    let validated = &value["last_validated_at"];
    check("id", id.is_some());
    check("created_at", created_at.is_some());
    check("definition_id", definition.is_some());
    check("public_id", public_id.is_some());
    check("last_validated_at", validated.is_null() || instant("last_validated_at").is_some());
    check("state", value["state"] == "validated");
    let habilitations = &value["habilitations"];
    let none = Vec::new();
    let mut of_definition = habilitations.as_array().unwrap_or(&none).iter();
    let of_definition = of_definition
        .by_ref()
        .filter(|it| it["definition_id"].as_str().is_none_or(|id| id == WANTED));
    let active: Vec<bool> = of_definition
        .map(|it| it["state"].as_str().is_none_or(|state| state == "active"))
        .collect();
    let is_list = habilitations.is_null() || habilitations.is_array();
    check("habilitations", is_list && (active.is_empty() || active.contains(&true)));
    let siret = value["organisation"]["siret"].as_str().unwrap_or_default();
    if value["organisation"].is_object() {
        check("siret", siret.parse::<crate::types::Siret>().is_ok());
    } else {
        check("organisation", false);
    }
    let data = &value["data"];
    let mut row = None;
    if data.is_object() {
        let (name, level) = match &data["niveau_bourse_min"] {
            level if blank(level) => ("data.echelon_bourse", &data["echelon_bourse"]),
            level => ("data.niveau_bourse_min", level),
        };
        let level = level.as_str().unwrap_or_default();
        check(name, ["0Bis", "1", "2", "3", "4", "5", "6", "7"].contains(&level));
        let communes = match &data["manual_code_insee_communes"] {
            list if blank(list) => Some(Vec::new()),
            Value::String(text) => {
                serde_json::from_str::<Option<Vec<Value>>>(text).ok().map(Option::unwrap_or_default)
            }
            Value::Array(list) => Some(list.clone()),
            _ => None,
        };
        let read = |code: &Value| code.as_str().and_then(|code| code.parse().ok());
        let is_alone = blank(&data["entity_type"]);
        let communes: Option<Vec<CommuneCode>> = if is_alone {
            communes.and_then(|list| list.iter().filter(|code| !blank(code)).map(read).collect())
        } else {
            Some(communes.unwrap_or_default().iter().filter_map(read).collect())
        };
        let mut entity = None;
        if is_alone {
            check("data.manual_code_insee_communes", communes.is_some());
            check("data.entity_type", communes.as_ref().is_none_or(|list| !list.is_empty()));
        } else {
            let kind: Option<EntityType> =
                data["entity_type"].as_str().and_then(|kind| kind.parse().ok());
            check("data.entity_type", kind.is_some());
            if let Some(kind) = kind {
                entity = data["code_insee_entity"]
                    .as_str()
                    .and_then(|code| Entity::new(kind, code).ok());
                check("data.code_insee_entity", entity.is_some());
            }
        }
        let date = &data["premiere_date_transmission"];
        let read = date.as_str().and_then(|date| parse_date(date).ok());
        check("data.premiere_date_transmission", blank(date) || read.is_some());
        row = communes.zip(public_id).zip(id).map(|((communes, public_id), id)| {
            format!("{public_id} D{id} {siret} {level} {:?} {communes:?} {read:?}", entity.as_ref())
        });
    } else {
        check("data", false);
    }
    let body = if bad.is_empty() { Ok(row.unwrap_or_default()) } else { Err(bad) };
    Some((reference, created_at, Some((instant("last_validated_at"), body))))
}

/// Compares the result for a body, and the content of each element, with the naive decoder's.
fn agrees(body: &[u8], read: &Result<Vec<Element>, BodyError>) -> Result<(), TestCaseError> {
    let expected: Result<Vec<&RawValue>, BodyError> = match serde_json::from_slice(body) {
        Ok(list) => Ok(list),
        Err(_) if serde_json::from_slice::<&RawValue>(body).is_ok() => {
            Err(BodyError::WrongShape("the listing is not a JSON array"))
        }
        Err(_) => Err(BodyError::NotJson),
    };
    match (read, &expected) {
        (Ok(elements), Ok(list)) => {
            prop_assert_eq!(elements.len(), list.len());
            for (element, raw) in elements.iter().zip(list) {
                if let Some(expected) = naive(raw) {
                    prop_assert_eq!(said(element), expected, "{}", raw);
                }
            }
        }
        (Err(error), Err(expected)) => {
            prop_assert_eq!(format!("{error:?}"), format!("{expected:?}"));
        }
        _ => prop_assert!(false, "{:?} instead of {:?}", read, expected.map(|list| list.len())),
    }
    Ok(())
}

/// Reads a body through a buffer of this size, from a reader that returns chunks of these sizes.
fn read(body: &[u8], first_bytes: usize, chunks: &[usize]) -> Result<Vec<Element>, BodyError> {
    struct Chunks<'a>(&'a [u8], std::iter::Cycle<std::slice::Iter<'a, usize>>);
    impl Read for Chunks<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let chunk = match self.1.next() {
                Some(0) => return Err(ErrorKind::Interrupted.into()),
                Some(chunk) => *chunk,
                None => usize::MAX,
            };
            let count = chunk.min(buffer.len());
            self.0.read(&mut buffer[..count])
        }
    }
    let buffer = Buffer::new(Chunks(body, chunks.iter().cycle()), 64 << 20, first_bytes);
    let mut page = Page::new(WANTED);
    page.read(buffer)?;
    Ok(page.elements)
}

/// Returns a strategy for a member's value: mostly one of its usual values, sometimes any value.
fn text(own: &'static [&'static str]) -> impl Strategy<Value = String> {
    let any = select(
        &[
            "null",
            "true",
            "5",
            "-1",
            "1.0",
            "1e999",
            "99999999999999999999",
            "\"\"",
            "\" \"",
            "[]",
            "{}",
            "[1,[2]]",
            r#"{"a":{"b":null}}"#,
            r#""\u0000""#,
            r#""\ud800""#,
            r#""\ud83d\ude00 \" \\ é""#,
            "\"2025-01-01\"",
        ][..],
    );
    prop_oneof![9 => select(own), 1 => any].prop_map(str::to_owned)
}

fn object(members: Vec<(&'static str, BoxedStrategy<String>)>) -> impl Strategy<Value = String> {
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, value)| {
            (Just(name), value, prop_oneof![1 => Just(0_usize), 20 => Just(1), 1 => Just(2)])
        })
        .collect();
    let gap = select(&["", "", " ", "\n\t"][..]);
    (members, gap, any::<prop::sample::Index>()).prop_map(|(members, gap, turn)| {
        let mut texts: Vec<_> = members
            .iter()
            .flat_map(|(name, value, times)| {
                vec![format!("{gap}\"{name}\"{gap}:{gap}{value}{gap}"); *times]
            })
            .collect();
        if !texts.is_empty() {
            let turn = turn.index(texts.len());
            texts.rotate_left(turn);
        }
        format!("{{{}}}", texts.join(","))
    })
}

fn element() -> impl Strategy<Value = String> {
    const TIMES: &[&str] =
        &["\"2025-06-19T19:36:36.298+02:00\"", "\"2025-06-19T17:36:36Z\"", "\"2025-06-19 17:36\""];
    let organisation = object(vec![
        ("id", text(&["1"]).boxed()),
        (
            "siret",
            text(&["\"13002526500013\"", "\"35600000000001\"", "\"13002526500014\""]).boxed(),
        ),
        (
            "insee_payload",
            text(&["null", r#"{"etablissement":{"siret":"1","periodes":[{},{"a":"]"}]}}"#]).boxed(),
        ),
    ]);
    let data = object(vec![
        ("echelon_bourse", text(&["\"0Bis\"", "\"7\"", "\"8\""]).boxed()),
        ("niveau_bourse_min", text(&["null", "\"\"", "\"3\""]).boxed()),
        ("entity_type", text(&["null", "\"commune\"", "\"departement\"", "\"region\""]).boxed()),
        ("code_insee_entity", text(&["\"69123\"", "\"2A\"", "\"84\"", "\"971\""]).boxed()),
        (
            "manual_code_insee_communes",
            text(&[
                "null",
                "\"[]\"",
                "[]",
                r#""[\"69123\", \"75056\"]""#,
                r#"["2A004",""]"#,
                r#""[\"x\"]""#,
            ])
            .boxed(),
        ),
        ("premiere_date_transmission", text(&["null", "\"2026-09-01\"", "\"01/09/2026\""]).boxed()),
        ("contact_metier_email", text(&["\"jeanne.durand@exemple.fr\""]).boxed()),
    ]);
    let ours =
        select(&["\"proactivite_pour_les_etudiants_boursiers_dyn\"", "\"api_particulier\""][..]);
    let demande = object(vec![
        ("id", text(&["1", "42", "9223372036854775807"]).boxed()),
        ("public_id", text(&["\"2b0c1d1e-7f5a\"", "\"ABC\\u0031\""]).boxed()),
        (
            "definition_id",
            prop_oneof![9 => ours.prop_map(str::to_owned), 1 => text(&["null"])].boxed(),
        ),
        ("state", text(&["\"validated\""]).boxed()),
        ("data", prop_oneof![9 => data, 1 => text(&["null"])].boxed()),
        ("created_at", text(TIMES).boxed()),
        ("last_validated_at", text(TIMES).boxed()),
        ("organisation", prop_oneof![9 => organisation, 1 => text(&["null"])].boxed()),
        (
            "habilitations",
            text(&["[]", r#"[{"id":7,"data":{"entity_type":"region"},"definition_id":"x"}]"#])
                .boxed(),
        ),
    ]);
    prop_oneof![15 => demande, 1 => text(&["{}"])]
}

fn page() -> impl Strategy<Value = String> {
    (prop::collection::vec(element(), 0..4), select(&["", " ", "\n"][..])).prop_map(
        |(elements, gap)| {
            format!("{gap}[{gap}{}{gap}]{gap}", elements.join(&format!("{gap},{gap}")))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_page_is_decoded_as_by_the_naive_decoder(
        page in page(),
        first_bytes in 1_usize..3000,
        chunks in prop::collection::vec(0_usize..2000, 0..4),
    ) {
        let chunks = if chunks.iter().all(|chunk| *chunk == 0) { vec![7] } else { chunks };
        agrees(page.as_bytes(), &read(page.as_bytes(), first_bytes, &chunks))?;
    }

    #[test]
    fn a_damaged_page_is_decoded_as_by_the_naive_decoder(
        page in page(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..3, any::<u8>()), 1..3),
        other in select(&b"\"\\{}[]:, 0e-tn\x00\xc3\xff"[..]),
        first_bytes in 1_usize..3000,
    ) {
        let mut body = page.into_bytes();
        for (place, kind, byte) in damage {
            if body.is_empty() { break; }
            let place = place.index(body.len());
            match kind {
                0 => body[place] = if byte < 128 { byte } else { other },
                1 => { body.remove(place); }
                _ => body.truncate(place),
            }
        }
        agrees(&body, &read(&body, first_bytes, &[]))?;
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            prop::collection::vec(select(&b"[]{}:,\"\\u0d8e19+-.tfn \n\xc3\xa9"[..]), 0..40),
        ],
        first_bytes in 1_usize..60,
    ) {
        agrees(&body, &read(&body, first_bytes, &[]))?;
    }
}

#[test]
fn the_result_does_not_depend_on_buffer_and_chunk_sizes() {
    let page = format!(
        "[ {},\n12.5e-3 , -0, \"\\ud83d\\ude00é\u{1f600}\", null,true , {{}} ]\n",
        super::demande("public_id", Some("\"caf\\u00e9 é\u{1f600}\""))
    );
    let whole = read(page.as_bytes(), 1 << 18, &[]).unwrap();
    assert_eq!(whole.len(), 7);
    for first_bytes in 1..=page.len() + 1 {
        for chunk in [1, 5, usize::MAX] {
            assert_eq!(
                read(page.as_bytes(), first_bytes, &[chunk]).unwrap(),
                whole,
                "{first_bytes}"
            );
        }
    }
}
