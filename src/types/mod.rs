//! What a row is made of, as types that hold only valid values: parse, don't validate.
//!
//! Every type has a private field, is made by parsing, and is printed back as the same text. A
//! refused value is reported by its rule alone ([`Invalid`]), since the value may be personal data.

pub(crate) mod cron;
pub mod entry;
mod perimeter;
pub(crate) mod time;

use std::fmt;
use std::str::FromStr;

pub use perimeter::{CommuneCode, Entity, EntityType, Perimeter};

/// The rule that a text breaks; never the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

/// Parses decimal digits alone, without the sign that `parse` would allow.
pub(crate) fn digits<T: FromStr>(text: &str) -> Option<T> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok()).flatten()
}

/// The number of a demande: a positive integer, shown to people as `D123`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DemandeId(i64);

impl DemandeId {
    /// Returns the bare number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for DemandeId {
    type Error = Invalid;

    fn try_from(id: i64) -> Result<Self, Invalid> {
        if id > 0 { Ok(Self(id)) } else { Err(Invalid("not positive")) }
    }
}

impl FromStr for DemandeId {
    type Err = Invalid;

    /// Reads `123` or `D123`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let id: Option<i64> = digits(text.strip_prefix('D').unwrap_or(text));
        Self::try_from(id.ok_or(Invalid("not a number"))?)
    }
}

impl fmt::Display for DemandeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "D{}", self.0)
    }
}

/// The `public_id` of a demande: 1 to 200 characters, not all blank, none of them a control.
///
/// A UUID today, but upstream promises no more than a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthorizationId(Box<str>);

impl AuthorizationId {
    /// The most characters that an id may have.
    pub const MAX_CHARS: usize = 200;

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AuthorizationId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.trim().is_empty() {
            return Err(Invalid("blank"));
        }
        if text.chars().count() > Self::MAX_CHARS {
            return Err(Invalid("too long"));
        }
        // NUL among them, which PostgreSQL cannot store in a text.
        if text.chars().any(char::is_control) {
            return Err(Invalid("control character"));
        }
        Ok(Self(text.into()))
    }
}

/// The number of an establishment: 14 digits whose Luhn sum is a multiple of ten.
///
/// Establishments of La Poste (SIREN 356000000) ran out of such numbers, and DataPass takes any of
/// theirs: what it let in must not be refused here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Siret(u64);

impl FromStr for Siret {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = digits(text).filter(|_| text.len() == 14).ok_or(Invalid("not 14 digits"))?;
        // Every second digit from the end is doubled, and counts as the sum of its own digits.
        let luhn = (0..).zip(text.bytes().rev()).map(|(place, byte)| {
            let value = u32::from(byte - b'0') * (1 + place % 2);
            value / 10 + value % 10
        });
        let luhn: u32 = luhn.sum();
        let la_poste = text.starts_with("356000000");
        if !luhn.is_multiple_of(10) && !la_poste {
            return Err(Invalid("checksum"));
        }
        Ok(Self(number))
    }
}

impl fmt::Display for Siret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:014}", self.0)
    }
}

/// The lowest scholarship level: `0Bis`, `1` … `7`, in exactly these letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScholarshipLevel(&'static str);

impl ScholarshipLevel {
    const LEVELS: [&'static str; 8] = ["0Bis", "1", "2", "3", "4", "5", "6", "7"];

    /// Returns the text.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl FromStr for ScholarshipLevel {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let level = Self::LEVELS.into_iter().find(|level| *level == text);
        level.map(Self).ok_or(Invalid("unknown"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn refused<T: FromStr<Err = Invalid> + fmt::Debug>(text: &str) -> &'static str {
        text.parse::<T>().expect_err("it should be refused").0
    }

    #[track_caller]
    pub(super) fn kept<T: FromStr<Err = Invalid>>(text: &str, written: impl Fn(T) -> String) {
        assert_eq!(text.parse().map(written).as_deref(), Ok(text));
    }

    #[test]
    fn siret() {
        for text in ["13002526500013", "00000000000000", "35600000049837"] {
            kept(text, |it: Siret| it.to_string());
        }
        // La Poste: no Luhn sum is a multiple of ten, and one digit sum is not a multiple of five.
        kept("35600000000001", |it: Siret| it.to_string());
        kept("35600000000002", |it: Siret| it.to_string());
        assert_eq!(refused::<Siret>("35600000100002"), "checksum");
        assert_eq!(refused::<Siret>("13002526500014"), "checksum");
        for text in [
            "",
            "1300252650001",
            "130025265000131",
            "1300252650001x",
            "130 02526500013",
            "１3002526500",
        ] {
            assert_eq!(refused::<Siret>(text), "not 14 digits", "{text}");
        }
    }

    #[test]
    fn siret_refuses_every_single_wrong_digit() {
        let good = "13002526500013";
        for place in 0..14 {
            for digit in b'0'..=b'9' {
                let mut text = good.as_bytes().to_vec();
                text[place] = digit;
                let text = String::from_utf8(text).expect("ASCII");
                assert_eq!(text.parse::<Siret>().is_ok(), text == good, "{text}");
            }
        }
    }

    #[test]
    fn ids() {
        kept("D5", |it: DemandeId| it.to_string());
        assert_eq!("5".parse::<DemandeId>().map(DemandeId::get), Ok(5));
        kept("D9223372036854775807", |it: DemandeId| it.to_string());
        assert_eq!(refused::<DemandeId>("0"), "not positive");
        for text in ["", "D", "-1", "+1", " 1", "d5", "DD5", "D9223372036854775808"] {
            assert_eq!(refused::<DemandeId>(text), "not a number", "{text}");
        }
        kept("2b0c1d1e-7f5a-4f0e-8f3b-111111111111", |it: AuthorizationId| it.as_str().to_owned());
        kept(&"é".repeat(200), |it: AuthorizationId| it.as_str().to_owned());
        assert_eq!(refused::<AuthorizationId>(&"é".repeat(201)), "too long");
        assert_eq!(refused::<AuthorizationId>(" \t"), "blank");
        assert_eq!(refused::<AuthorizationId>("a\0b"), "control character");
    }

    #[test]
    fn levels() {
        for text in ["0Bis", "1", "2", "3", "4", "5", "6", "7"] {
            kept(text, |it: ScholarshipLevel| it.as_str().to_owned());
        }
        for text in ["", "0", "0bis", "0BIS", "8", " 1", "01"] {
            assert_eq!(refused::<ScholarshipLevel>(text), "unknown", "{text}");
        }
    }
}
