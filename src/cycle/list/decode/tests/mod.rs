//! Tests of the decoder: named cases here, random pages against a naive decoder in `model`.

mod bounds;
mod model;

use std::io::{self, Read};

use super::*;
use crate::cycle::list::decode::buffer::MAX_ELEMENT_BYTES;
use crate::types::entry::{Fault, Key};

const WANTED: &str = "proactivite_pour_les_etudiants_boursiers_dyn";

/// The value of `{}` in a template of [`demande`] when nothing is changed.
const FIELDS: [(&str, &str); 9] = [
    ("id", "5"),
    ("public_id", r#""2b0c1d1e""#),
    ("definition_id", r#""proactivite_pour_les_etudiants_boursiers_dyn""#),
    ("state", r#""validated""#),
    ("created_at", r#""2025-06-19T19:36:36.298+02:00""#),
    ("last_validated_at", r#""2025-06-20T08:00:00.001+02:00""#),
    ("organisation", r#"{"id":1,"siret":"13002526500013","insee_payload":{"a":[1,{}]}}"#),
    (
        "data",
        r#"{"echelon_bourse":"0Bis","entity_type":"region","code_insee_entity":"84","premiere_date_transmission":"2026-09-01"}"#,
    ),
    (
        "habilitations",
        r#"[{"id":9,"state":"active","definition_id":"proactivite_pour_les_etudiants_boursiers_dyn"}]"#,
    ),
];

/// Returns the JSON of a valid demande in which one member has another value, or is omitted.
fn demande(name: &str, value: Option<&str>) -> String {
    let members: Vec<String> = FIELDS
        .iter()
        .map(|(field, good)| (field, if *field == name { value } else { Some(*good) }))
        .filter_map(|(field, value)| value.map(|value| format!("{field:?}:{value}")))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn decode_all(body: impl Read) -> Result<Vec<Element>, BodyError> {
    decode(body, 64 << 20, WANTED)
}

fn only(element: &str) -> Element {
    let good = demande("", None);
    let mut elements = decode_all(format!("[{good},{element},{good}]").as_bytes()).unwrap();
    assert_eq!(elements.len(), 3);
    assert_eq!(elements[0], elements[2]);
    assert!(elements[0].entry.as_ref().unwrap().body.is_ok());
    elements.swap_remove(1)
}

/// Returns the faults of a demande with one member changed, joined.
fn faults(name: &str, value: impl Into<Option<&'static str>>) -> String {
    match only(&demande(name, value.into())).entry.unwrap().body {
        Ok(_) => String::new(),
        Err(faults) => {
            let faults: Vec<_> = faults.iter().map(Fault::to_string).collect();
            faults.join(", ")
        }
    }
}

#[test]
fn all_fields_of_a_valid_demande_are_read() {
    let element = only(&demande("", None));
    assert_eq!(element.key.to_string(), "D5");
    assert_eq!(element.entry.as_ref().unwrap().reference, "D5");
    assert_eq!(element.created_at.unwrap().to_rfc3339(), "2025-06-19T17:36:36.298+00:00");
    let entry = element.entry.unwrap();
    assert!(entry.of_definition);
    assert_eq!(entry.last_validated_at, element.last_validated_at);
    assert_eq!(
        element.last_validated_at.ok().flatten().unwrap().to_rfc3339(),
        "2025-06-20T06:00:00.001+00:00"
    );
    assert_eq!(entry.public_id(), Some("2b0c1d1e"));
    assert_eq!(entry.demande_id.unwrap().get(), 5);
    let valid = entry.body.unwrap();
    assert_eq!(valid.siret.to_string(), "13002526500013");
    assert_eq!(valid.level.as_str(), "0Bis");
    assert_eq!(valid.perimeter.entity().unwrap().kind_and_code(), ("region", "84"));
    assert!(valid.perimeter.communes().is_empty());
    assert_eq!(valid.transmission_date.unwrap().to_string(), "2026-09-01");
}

#[test]
fn a_demande_of_another_definition_has_no_entry() {
    let element = only(&demande("definition_id", Some(r#""api_particulier""#)));
    assert_eq!(element.key.to_string(), "D5");
    assert!(element.created_at.is_some());
    assert_eq!(element.entry, None);
}

#[test]
fn every_fault_has_its_field_and_rule() {
    let cases: &[(&str, Option<&'static str>, &str)] = &[
        ("id", None, "id: missing"),
        ("id", Some("null"), "id: missing"),
        ("id", Some("0"), "id: not positive"),
        ("id", Some("-3"), "id: not positive"),
        ("id", Some("\"5\""), "id: not an integer"),
        ("id", Some("5.0"), "id: not an integer"),
        ("id", Some("1e999"), "id: not an integer"),
        ("id", Some("9223372036854775808"), "id: not an integer"),
        ("public_id", None, "public_id: missing"),
        ("public_id", Some("null"), "public_id: missing"),
        ("public_id", Some("\"\""), "public_id: blank"),
        ("public_id", Some("12"), "public_id: not a text"),
        ("public_id", Some(r#""a\u0000b""#), "public_id: control character"),
        ("public_id", Some(r#""\ud800""#), "public_id: not a text"),
        ("definition_id", None, "definition_id: missing"),
        ("definition_id", Some("\" \""), "definition_id: missing"),
        ("definition_id", Some("[1]"), "definition_id: not a text"),
        ("state", None, "state: missing"),
        ("state", Some("\"draft\""), "state: not validated"),
        ("state", Some("true"), "state: not a text"),
        ("created_at", None, "created_at: missing"),
        ("created_at", Some("\"2025-06-19\""), "created_at: not a time with offset"),
        ("last_validated_at", Some("\"soon\""), "last_validated_at: not a time with offset"),
        ("last_validated_at", Some("\"\""), "last_validated_at: not a time with offset"),
        ("last_validated_at", Some("1750354596"), "last_validated_at: not a text"),
        ("last_validated_at", Some("null"), ""),
        ("last_validated_at", None, ""),
        ("organisation", None, "organisation: missing"),
        ("organisation", Some("null"), "organisation: missing"),
        ("organisation", Some("[]"), "organisation: not a readable object"),
        ("organisation", Some("{}"), "siret: missing"),
        ("organisation", Some(r#"{"siret":"13002526500014"}"#), "siret: checksum"),
        ("organisation", Some(r#"{"siret":"1300252650001"}"#), "siret: not 14 digits"),
        ("organisation", Some(r#"{"siret":13002526500013}"#), "siret: not a text"),
        ("organisation", Some(r#"{"siret":"x","siret":"13002526500013"}"#), ""),
        ("data", None, "data: missing"),
        ("data", Some("\"{}\""), "data: not a readable object"),
        ("data", Some(r#"{"\udc00":1}"#), "data: not a readable object"),
        ("data", Some("{}"), "data.echelon_bourse: missing, data.entity_type: missing"),
    ];
    for (name, value, expected) in cases {
        assert_eq!(faults(name, *value), *expected, "{name} {value:?}");
    }
    let long = format!("\"{}\"", "é".repeat(201));
    let element = only(&demande("public_id", Some(&long)));
    let entry = element.entry.unwrap();
    assert_eq!(entry.reasons()[0], "public_id: too long");
    assert_eq!(entry.public_id(), None);
}

#[test]
fn the_level_is_niveau_bourse_min_unless_blank() {
    let level = |data: &str| {
        let data = format!(r#"{{"entity_type":"region","code_insee_entity":"84",{data}}}"#);
        match only(&demande("data", Some(&data))).entry.unwrap().body {
            Ok(valid) => valid.level.as_str().to_owned(),
            Err(faults) => faults[0].to_string(),
        }
    };
    assert_eq!(level(r#""niveau_bourse_min":"3","echelon_bourse":"0Bis""#), "3");
    assert_eq!(level(r#""niveau_bourse_min":"3""#), "3");
    assert_eq!(level(r#""niveau_bourse_min":" ","echelon_bourse":"0Bis""#), "0Bis");
    assert_eq!(level(r#""niveau_bourse_min":null,"echelon_bourse":"\u0037""#), "7");
    assert_eq!(
        level(r#""niveau_bourse_min":"8","echelon_bourse":"1""#),
        "data.niveau_bourse_min: unknown"
    );
    assert_eq!(
        level(r#""niveau_bourse_min":3,"echelon_bourse":"1""#),
        "data.niveau_bourse_min: not a text"
    );
    assert_eq!(level(r#""echelon_bourse":"8""#), "data.echelon_bourse: unknown");
}

/// A reopened demande whose habilitation was revoked is `validated` and not approved.
#[test]
fn one_habilitation_of_the_definition_must_be_active() {
    let faults = |text: Option<&str>| {
        let body = only(&demande("habilitations", text)).entry.unwrap().body;
        body.map_or_else(|it| it[0].to_string(), |_| String::new())
    };
    let of = |definition: &str, state: &str| {
        let definition = definition.replace("ours", WANTED);
        format!(r#"{{"definition_id":"{definition}","state":"{state}"}}"#)
    };
    let (ours, revoked) = (of("ours", "active"), of("ours", "revoked"));
    let (obsolete, other) = (of("ours", "obsolete"), of("other", "revoked"));
    let without_definition = r#"{"state":"revoked"}"#;
    for good in [
        None,
        Some("null".to_owned()),
        Some("[]".to_owned()),
        Some(format!("[{ours}]")),
        Some(format!("[{revoked},{ours},{obsolete}]")),
        Some(format!("[{other}]")),
        Some(format!(r#"[{{"definition_id":"{WANTED}"}}]"#)),
        Some(format!(r#"[{revoked},{{"definition_id":5,"state":7}}]"#)),
        Some(format!("[{revoked},null]")),
    ] {
        assert_eq!(faults(good.as_deref()), "", "{good:?}");
    }
    for bad in [
        format!("[{revoked}]"),
        format!("[{other},{obsolete},{revoked}]"),
        format!("[{without_definition}]"),
        format!("[{other},{without_definition}]"),
    ] {
        assert_eq!(faults(Some(&bad)), "habilitations: none active", "{bad}");
    }
    for bad in ["5", "{}", "\"active\""] {
        assert_eq!(faults(Some(bad)), "habilitations: not a list", "{bad}");
    }
}

#[test]
fn the_perimeter_is_an_entity_or_communes_or_both() {
    let perimeter = |data: &str| {
        let data = format!(r#"{{"echelon_bourse":"1",{data}}}"#);
        match only(&demande("data", Some(&data))).entry.unwrap().body {
            Ok(valid) => {
                let entity = valid.perimeter.entity().map(|entity| entity.kind_and_code());
                let entity = entity.map(|(kind, code)| format!("{kind} {code}"));
                let communes: Vec<_> =
                    valid.perimeter.communes().iter().map(|code| code.as_str()).collect();
                format!("{} {}", entity.as_deref().unwrap_or("none"), communes.join(" "))
            }
            Err(faults) => faults[0].to_string(),
        }
    };
    let both =
        r#""entity_type":"departement","code_insee_entity":"2A","manual_code_insee_communes""#;
    assert_eq!(
        perimeter(&format!(r#"{both}:"[\"69123\", \"75056\"]""#)),
        "departement 2A 69123 75056"
    );
    assert_eq!(perimeter(&format!(r#"{both}:["69123"]"#)), "departement 2A 69123");
    for none in [r#""[]""#, "[]", "null", r#""""#, r#"" ""#, r#""null""#, r#"[""]"#, r#""[\"\"]""#]
    {
        assert_eq!(perimeter(&format!("{both}:{none}")), "departement 2A ", "{none}");
    }
    let alone = r#""manual_code_insee_communes""#;
    for bad in [
        "5",
        "{}",
        r#""69123""#,
        r#""{}""#,
        "[69123]",
        r#""[[]]""#,
        r#""[\"69123\"""#,
        r#"["\ud800"]"#,
    ] {
        let fault = perimeter(&format!("{alone}:{bad}"));
        let expected = "data.manual_code_insee_communes: not a ";
        assert!(fault.starts_with(expected), "{bad}: {fault}");
        // With an entity, invalid communes do not reject the entry.
        assert_eq!(perimeter(&format!("{both}:{bad}")), "departement 2A ", "{bad}");
    }
    for (codes, kept) in [
        (r#"["6912"]"#, ""),
        (r#"["6912","69123",5,null,"","2A004"]"#, "69123 2A004"),
        (r#""[\"75056\",\"x\"]""#, "75056"),
    ] {
        let fault = "data.manual_code_insee_communes: not a commune code";
        assert_eq!(perimeter(&format!("{alone}:{codes}")), fault, "{codes}");
        let both = perimeter(&format!("{both}:{codes}"));
        assert_eq!(both, format!("departement 2A {kept}"), "{codes}");
    }
    assert_eq!(perimeter(r#""manual_code_insee_communes":["2A004"]"#), "none 2A004");
    assert_eq!(
        perimeter(r#""code_insee_entity":"69","manual_code_insee_communes":["2A004"]"#),
        "none 2A004"
    );
    assert_eq!(perimeter(r#""code_insee_entity":"69""#), "data.entity_type: missing");
    assert_eq!(perimeter(r#""entity_type":"pays""#), "data.entity_type: unknown");
    assert_eq!(perimeter(r#""entity_type":"region""#), "data.code_insee_entity: missing");
    assert_eq!(
        perimeter(r#""entity_type":"region","code_insee_entity":"x4""#),
        "data.code_insee_entity: not a region code"
    );
}

#[test]
fn an_absent_transmission_date_is_valid() {
    let date = |date: &str| {
        let data = format!(
            r#"{{"echelon_bourse":"1","entity_type":"commune","code_insee_entity":"2A004"{date}}}"#
        );
        match only(&demande("data", Some(&data))).entry.unwrap().body {
            Ok(valid) => valid.transmission_date.map(|date| date.to_string()).unwrap_or_default(),
            Err(faults) => faults[0].to_string(),
        }
    };
    for absent in ["", "null", "\"\"", "\" \""] {
        let member = if absent.is_empty() {
            String::new()
        } else {
            format!(",\"premiere_date_transmission\":{absent}")
        };
        assert_eq!(date(&member), "");
    }
    assert_eq!(date(r#","premiere_date_transmission":"2024-02-29""#), "2024-02-29");
    assert_eq!(
        date(r#","premiere_date_transmission":"29/02/2024""#),
        "data.premiere_date_transmission: not a date"
    );
}

#[test]
fn an_invalid_element_does_not_affect_the_others() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_member = demande("data", Some(&deep));
    for (text, fault) in [
        ("null", "element: not an object"),
        ("12", "element: not an object"),
        ("-1.5e+300000", "element: not an object"),
        ("\"text\"", "element: not an object"),
        ("[{}]", "element: not an object"),
        (r#"{"\ud800":1}"#, "element: unreadable name"),
        (deep.as_str(), "element: not an object"),
        (deep_member.as_str(), "data: not a readable object"),
        ("{}", "id: missing"),
    ] {
        let element = only(text);
        assert_eq!(element.entry.unwrap().reasons()[0], fault);
    }
}

#[test]
fn the_key_is_the_id_else_the_public_id_else_a_digest() {
    assert_eq!(only(&demande("id", Some("7"))).key.to_string(), "D7");
    assert_eq!(only(&demande("id", Some("7.5"))).key.to_string(), "2b0c1d1e");
    assert_eq!(only("{}").key.to_string(), "44136fa355b3678a1146ad16f7e8649e");
    assert_eq!(only("{}").key, only("{}").key);
    // The reference of an element without an id is made of its creation time, so that other fields may
    // change.
    let created = |time: &str, more: &str| {
        let element = only(&format!(r#"{{"created_at":"{time}"{more}}}"#));
        (element.key, element.entry.unwrap().reference)
    };
    let now = "2025-06-19T19:36:36.298+02:00";
    let (one, edited) = (created(now, ""), created(now, r#","a":1"#));
    assert_eq!(one.1, edited.1);
    assert_ne!(one.0, edited.0, "a listing may have both");
    let later = created("2025-06-19T19:36:36.299+02:00", "");
    assert_ne!(one.1, later.1);
    assert_ne!(only("{}").key, only("{\"a\":1}").key);
    // A string that cannot be stored is not a key either,
    let nul = only(r#"{"public_id":"a\u0000"}"#);
    assert!(matches!(nul.key, Key::Text(_)));
    // nor is one that looks like the number of another demande.
    for public_id in ["5", "D5", "D05"] {
        let key = only(&format!(r#"{{"public_id":"{public_id}"}}"#)).key;
        assert!(matches!(key, Key::Text(_)), "{public_id}");
    }
    for public_id in ["d5", "D", "D5a", "D0", "0"] {
        let key = only(&format!(r#"{{"public_id":"{public_id}"}}"#)).key;
        assert_eq!(key.to_string(), public_id);
    }
}

/// Returns the number of elements of a body, or the kind of error.
fn verdict(body: &[u8]) -> String {
    match decode_all(body) {
        Ok(elements) => elements.len().to_string(),
        Err(BodyError::WrongShape(_)) => "WrongShape".to_owned(),
        Err(BodyError::TooLarge(_) | BodyError::Oversized(_)) => "TooLarge".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn bodies_that_are_not_a_list_are_errors() {
    for body in ["[]", " [ ] ", "\r\n\t[]\n", "\u{feff}[]", "\u{feff} []"] {
        assert_eq!(verdict(body.as_bytes()), "0");
    }
    for body in ["{}", "null", "12", " \"a\" ", r#"{"errors":[{"status":"401"}]}"#, "-0.5e3"] {
        assert_eq!(verdict(body.as_bytes()), "WrongShape", "{body}");
    }
    for body in [
        "",
        " ",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,]",
        "[1 2]",
        "[]]",
        "[] []",
        "[]x",
        "{\"a\":",
        "{} {}",
        "{}]",
        "nul",
        "<html>",
        "[1}",
        "[tru]",
        "[01]",
        "[1.]",
        "[-]",
        "[.5]",
        "[1e]",
        "[+1]",
        "['a']",
        "[\"\\x\"]",
        "[\"\t\"]",
        "[\"\\u12g4\"]",
        "[{\"a\" 1}]",
        "[{\"a\":1,}]",
        "[{a:1}]",
        "[{\"a\":[}]}]",
        "\u{feff}\u{feff}[]",
        " \u{feff}[]",
        "\u{feff}",
        "[NaN]",
        "\"a",
        "-",
        "1.",
    ] {
        assert_eq!(verdict(body.as_bytes()), "NotJson", "{body}");
    }
    for body in [&b"[\"\xff\"]"[..], b"[]\xc3", b"[{\"a\":\"\xed\xa0\x80\"}]", b"[]\0"] {
        assert_eq!(verdict(body), "NotJson", "{body:?}");
    }
}

#[test]
fn a_page_truncated_anywhere_is_not_valid_json() {
    let page = format!("[{},12.5e-3,null]", demande("", None));
    for end in 0..page.len() {
        assert_eq!(verdict(&page.as_bytes()[..end]), "NotJson", "{end}");
    }
}

#[test]
fn bounds_hold() {
    let with_limit = |body: &str, limit| decode(body.as_bytes(), limit, WANTED);
    assert!(with_limit("[1,2]", 5).is_ok());
    assert!(matches!(with_limit("[1,2]", 4), Err(BodyError::TooLarge(4))));

    let body = |bytes: usize| format!("[\"{}\"]", "x".repeat(bytes));
    assert_eq!(verdict(body(MAX_ELEMENT_BYTES - 10).as_bytes()), "1");
    assert_eq!(verdict(body(MAX_ELEMENT_BYTES + 10).as_bytes()), "TooLarge");
    assert_eq!(verdict("1".repeat(MAX_ELEMENT_BYTES + 10).as_bytes()), "TooLarge");

    let many = |count: usize| format!("[{}1]", "1,".repeat(count - 1));
    assert_eq!(verdict(many(MAX_ELEMENTS).as_bytes()), MAX_ELEMENTS.to_string());
    assert_eq!(verdict(many(MAX_ELEMENTS + 1).as_bytes()), "TooLarge");

    // Endless white space, brackets or text exceeds a limit of the body or of the buffer.
    for byte in b" [{\"1" {
        let verdict = decode(io::repeat(*byte), 5 << 20, WANTED).unwrap_err();
        assert!(matches!(
            verdict,
            BodyError::TooLarge(_) | BodyError::Oversized(_) | BodyError::NotJson
        ));
    }
}

#[test]
fn a_read_error_is_distinguished_from_invalid_json() {
    struct Broken(bool);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::take(&mut self.0) {
                buffer[0] = b'[';
                return Ok(1);
            }
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    match decode_all(Broken(true)) {
        Err(BodyError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_error_message_contains_the_body() {
    let secret = "jeanne.durand@exemple.fr";
    for body in [format!("[\"{secret}"), format!("\"{secret}\""), format!("[{secret}]")] {
        let error = decode_all(body.as_bytes()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("jeanne"));
    }
    let element = only(&demande("public_id", Some(&format!("[\"{secret}\"]"))));
    assert!(!format!("{element:?}").contains("jeanne"));
}
