//! Tests of the limits: the memory and time that a hostile body may cost, and its effect on elements.

use std::io::{self, Read};

use super::*;

/// Repeats a text endlessly, and records the size of the reads.
struct Endless {
    text: Vec<u8>,
    at: usize,
    /// The largest buffer of a read.
    largest_read_bytes: usize,
    read_bytes: usize,
}

impl Endless {
    fn new(text: &str) -> Self {
        Self { text: text.into(), at: 0, largest_read_bytes: 0, read_bytes: 0 }
    }
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.largest_read_bytes = self.largest_read_bytes.max(buffer.len());
        for byte in buffer.iter_mut() {
            *byte = self.text[self.at % self.text.len()];
            self.at += 1;
        }
        self.read_bytes += buffer.len();
        Ok(buffer.len())
    }
}

/// Decodes a body that starts with `head` and endlessly repeats `text`.
fn endless(head: &str, text: &str, max_bytes: u64) -> (Endless, usize, BodyError) {
    let mut tail = Endless::new(text);
    let mut page = Page::new(WANTED);
    let body = head.as_bytes().chain(&mut tail);
    let error = page.read(Buffer::new(body, max_bytes, FIRST_BYTES)).unwrap_err();
    (tail, page.elements.len(), error)
}

/// Twice the largest size of an element
const MAX_BYTES: u64 = 8 << 20;

#[test]
fn an_endless_body_fails_at_a_limit_in_a_bounded_buffer() {
    let demande = format!("{},", demande("", None));
    let long = format!("{{\"a\":\"{}\"}},", "x".repeat(300_000));
    for (head, text) in [
        ("", " "),
        ("", "["),
        ("", "{\"a\":"),
        ("", "1"),
        ("[", " "),
        ("[", "[],"),
        ("[", "1,"),
        ("[", demande.as_str()),
        ("[", long.as_str()),
        ("[\"", "x"),
        ("[\"", "\\u0000"),
        ("[\"", "é"),
        ("[{\"", "x"),
        ("[{\"id\":", "9"),
        ("[{\"data\":[", "[[[["),
        ("[{\"data\":{", "\"a\":{"),
        ("[{\"habilitations\":[", "1,"),
        ("[{\"x\":", "[{\"a\":"),
        ("[{", "\"id\":1,"),
    ] {
        let (tail, elements, error) = endless(head, text, MAX_BYTES);
        let what = format!("{head:?} {:?}: {error:?}", &text[..text.len().min(20)]);
        assert!(
            matches!(error, BodyError::TooLarge(_) | BodyError::Oversized(_) | BodyError::NotJson),
            "{what}"
        );
        assert!(tail.largest_read_bytes <= MAX_ELEMENT_BYTES, "{what}");
        assert!(tail.read_bytes <= MAX_BYTES as usize + MAX_ELEMENT_BYTES, "{what}");
        assert!(elements <= MAX_ELEMENTS, "{what}");
    }
}

#[test]
fn a_usual_page_of_any_length_does_not_grow_the_buffer() {
    let text = format!("{},", demande("", None));
    let (tail, elements, error) = endless("[", &text, 3 << 20);
    assert!(matches!(error, BodyError::TooLarge(_) | BodyError::Oversized(_)), "{error:?}");
    assert!(elements > 3000, "{elements} elements");
    assert!(tail.largest_read_bytes <= buffer::FIRST_BYTES);
}

#[test]
fn a_page_of_more_than_ten_thousand_elements_is_refused() {
    let (tail, elements, error) = endless("[", "1,", 64 << 20);
    assert!(matches!(error, BodyError::TooLarge(_) | BodyError::Oversized(_)), "{error:?}");
    assert_eq!(elements, MAX_ELEMENTS);
    assert!(tail.read_bytes <= 2 * buffer::FIRST_BYTES, "it read on");
}

/// Returns a valid demande with one more member, of any name and value.
fn with(name: &str, value: &str) -> String {
    let valid = demande("", None);
    format!("{{\"{name}\":{value},{}", &valid[1..])
}

#[test]
fn skipped_values_may_be_any_valid_json() {
    let deep = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(100_000), close.repeat(100_000))
    };
    let valid = only(&demande("", None));
    assert!(valid.entry.as_ref().unwrap().body.is_ok());
    for (name, value) in [
        ("x", deep("[", "1", "]")),
        ("x", deep("{\"a\":", "null", "}")),
        ("x", deep("[{\"a\":", "0", "}]")),
        ("x", format!("[{}1]", "1,".repeat(1_000_000))),
        ("x", format!("[{}{{}}]", "{},".repeat(500_000))),
        ("x", "9".repeat(1_000_000)),
        ("x", format!("-1.{}e+{}", "0".repeat(1000), "9".repeat(1000))),
        ("x", r#""\ud800 \udc00 \u0000 \ud83d""#.to_owned()),
        ("\\u0000", "1".to_owned()),
        ("\\u0000id", "\"no id\"".to_owned()),
        ("", "1".to_owned()),
        // The last of two members with the same name counts, and the valid one is the last.
        ("id", "\"first\"".to_owned()),
        ("\\u0069d", "\"first\"".to_owned()),
        ("data", deep("[", "", "]")),
        ("created_at", deep("{\"a\":", "1", "}")),
    ] {
        let element = only(&with(name, &value));
        let shown = &value[..value.len().min(20)];
        assert_eq!(element, valid, "{name:?}: {shown}");
    }
}

#[test]
fn kept_values_of_another_type_reject_the_entry() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_object = format!("{}1{}", "{\"siret\":".repeat(100_000), "}".repeat(100_000));
    let many = format!("[{}1]", "1,".repeat(1_000_000));
    let digits = "9".repeat(1_000_000);
    for (name, _) in FIELDS {
        for value in [&deep, &deep_object, &many, &digits] {
            let shown = &value[..12];
            let entry = only(&demande(name, Some(value))).entry.unwrap();
            if name == "habilitations" && value.starts_with('[') {
                // What is not an object may be an active habilitation.
                assert!(entry.body.is_ok(), "{shown}");
                continue;
            }
            let faults = entry.body.unwrap_err();
            assert!(faults.iter().any(|fault| !fault.rule.is_empty()), "{name}: {shown}");
        }
    }
    // One level down, where the level, the perimeter and the communes are.
    for member in ["echelon_bourse", "entity_type", "manual_code_insee_communes"] {
        for value in [&deep, &many, &digits] {
            let data = format!("{{\"{member}\":{value}}}");
            let entry = only(&demande("data", Some(&data))).entry.unwrap();
            assert!(entry.body.is_err(), "{member}: {}", &value[..12]);
        }
    }
    // A long list of communes is not a reason to reject the entry, and its text is read too.
    let list = format!("[{}\"69123\"]", "\"\",".repeat(1_000_000));
    let data = format!("{{\"echelon_bourse\":\"1\",\"manual_code_insee_communes\":{list}}}");
    let entry = only(&demande("data", Some(&data))).entry.unwrap();
    assert_eq!(entry.body.unwrap().perimeter.communes().len(), 1);
    let text = format!("\"{}\"", deep.replace('"', "\\\""));
    let data = format!("{{\"echelon_bourse\":\"1\",\"manual_code_insee_communes\":{text}}}");
    assert!(only(&demande("data", Some(&data))).entry.unwrap().body.is_err());
}

#[test]
fn time_is_linear_in_the_length_of_an_element() {
    // An element of the largest size, from a reader that first returns single bytes: if each read
    // parsed the buffer from its start again, this would take hours.
    struct Slow<R>(R, usize);
    impl<R: Read> Read for Slow<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            let chunk_bytes = if self.1 < 200_000 { 1 } else { buffer.len() };
            self.0.read(&mut buffer[..chunk_bytes])
        }
    }
    let element = with("x", &format!("\"{}\"", "x".repeat(MAX_ELEMENT_BYTES - 2000)));
    let body = format!("[{element}]");
    let elements = decode_all(Slow(body.as_bytes(), 0)).unwrap();
    assert!(elements[0].entry.as_ref().unwrap().body.is_ok());
}
