//! Decodes one page of the listing from its stream: a bare JSON array of demandes.
//!
//! A demande has about ten thousand bytes, of which a few hundred matter. So the body is read once,
//! through one buffer, and each element is taken as soon as its last byte is there: its members are
//! kept as raw text, and only those of a demande of the wanted definition are read.
//!
//! # Errors of a page and of an element
//! All of the body is checked to be UTF-8 and to follow the grammar of JSON (RFC 8259), skipped
//! values included; a byte-order mark before it is skipped. A body that does not, or is truncated, is
//! [`BodyError::NotJson`]; one that does and is not an array is [`BodyError::WrongShape`]. Inside a
//! well-formed array every element is read alone: values of the wrong type or shape, numbers beyond
//! any range, escapes of half a surrogate pair, repeated names (the last one counts), values nested to
//! any depth. Such an element comes out with its faults ([`Entry`]), and its neighbours as they are.
//!
//! # Bounds
//! Memory: a buffer of 256 KiB, which grows to 4 MiB for an element as large, and beyond that
//! [`BodyError::Oversized`], like a page of more than
//! [`MAX_ELEMENTS`]. Time: linear in the length of the body; nothing recurses.

mod buffer;
mod element;

use std::io::Read;

use serde::de::{Deserialize, IgnoredAny};

use self::buffer::{Buffer, FIRST_BYTES};
use self::element::Members;
use crate::net::body::BodyError;
use crate::types::entry::Element;

/// The largest number of elements of a page: ten times what upstream serves.
pub const MAX_ELEMENTS: usize = 10_000;

/// Reads a page to its end, and returns its elements in their order.
///
/// `max_bytes` bounds the body as it is read, that is, after any decompression. Demandes of
/// another definition than `wanted` come without an [`Entry`].
pub fn decode(reader: impl Read, max_bytes: u64, wanted: &str) -> Result<Vec<Element>, BodyError> {
    let mut page = Page::new(wanted);
    page.read(Buffer::new(reader, max_bytes, FIRST_BYTES))?;
    Ok(page.elements)
}

/// Where in the body the parser is: what may come next.
#[derive(Clone, Copy)]
enum Place {
    /// A byte-order mark, or what comes without one.
    Mark,
    /// The opening bracket.
    Start,
    /// The first element, or the closing bracket.
    First,
    /// An element.
    Next,
    /// A comma, or the closing bracket.
    Between,
    /// Nothing more, after a list.
    End,
    /// Nothing more, after something else.
    NoList,
}

/// The parser of a page, fed with one stretch of text after the other.
struct Page<'s> {
    place: Place,
    elements: Vec<Element>,
    wanted: &'s str,
}

impl<'s> Page<'s> {
    fn new(wanted: &'s str) -> Self {
        Self { place: Place::Mark, elements: Vec::new(), wanted }
    }

    /// Reads the body to its end.
    fn read(&mut self, mut buffer: Buffer<impl Read>) -> Result<(), BodyError> {
        loop {
            buffer.fill()?;
            let consumed = self.take(buffer.text()?)?;
            buffer.consume(consumed);
            if buffer.ended {
                return match self.place {
                    Place::End => Ok(()),
                    Place::NoList => Err(BodyError::WrongShape("the listing is not a JSON array")),
                    _ => Err(BodyError::NotJson),
                };
            }
        }
    }

    /// Takes all that is complete in this text, and returns its length.
    fn take(&mut self, text: &str) -> Result<usize, BodyError> {
        let mut rest = text;
        if let (Place::Mark, false) = (self.place, text.is_empty()) {
            rest = text.strip_prefix('\u{feff}').unwrap_or(text);
            self.place = Place::Start;
        }
        loop {
            let blanks = rest.bytes().position(|byte| !b" \t\r\n".contains(&byte));
            rest = &rest[blanks.unwrap_or(rest.len())..];
            let Some(next) = rest.bytes().next() else {
                break;
            };
            let (taken, place) = match (self.place, next) {
                (Place::Start, b'[') => (1, Place::First),
                (Place::Between, b',') => (1, Place::Next),
                (Place::First | Place::Between, b']') => (1, Place::End),
                (Place::First | Place::Next, _) => match self.element(rest)? {
                    Some(taken) => (taken, Place::Between),
                    None => break,
                },
                (Place::Start, _) => match parse::<IgnoredAny>(rest)? {
                    Some((_, taken)) => (taken, Place::NoList),
                    None => break,
                },
                (Place::Mark | Place::Between | Place::End | Place::NoList, _) => {
                    return Err(BodyError::NotJson);
                }
            };
            rest = &rest[taken..];
            self.place = place;
        }
        Ok(text.len() - rest.len())
    }

    /// Takes the first element of the text, and returns its length; `None` when it is not complete.
    fn element(&mut self, text: &str) -> Result<Option<usize>, BodyError> {
        let (members, taken) = match parse::<Members<'_>>(text) {
            Ok(Some((members, taken))) => (Some(members), taken),
            Ok(None) => return Ok(None),
            // A fault of grammar, or well-formed and not a readable object: parsed again to find out.
            Err(_) => match parse::<IgnoredAny>(text)? {
                Some((_, taken)) => (None, taken),
                None => return Ok(None),
            },
        };
        if self.elements.len() == MAX_ELEMENTS {
            return Err(BodyError::Oversized("the page has more than 10000 elements"));
        }
        self.elements.push(element::read(members, &text[..taken], self.wanted));
        Ok(Some(taken))
    }
}

/// Reads the value that the text begins with, and returns it with its length; `None` when the text
/// ends within it. Fails when it is not JSON, or of another type.
fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<Option<(T, usize)>, BodyError> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    match values.next() {
        Some(Ok(value)) => Ok(Some((value, values.byte_offset()))),
        Some(Err(error)) if !error.is_eof() => Err(BodyError::NotJson),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
