//! Picks the wanted members of a JSON object and skips the others without building them.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The raw text of each wanted member, in the order of the names; `None` where it is absent.
///
/// Of members with the same name the last one counts. A raw value is well-formed JSON of any type
/// and depth: what it holds is judged later, a member at a time.
pub(super) type Members<'a, const N: usize> = [Option<&'a RawValue>; N];

/// Reads an object as the members of these names.
///
/// Fails on text that is no JSON, on a value that is no object, and on a name that is no Unicode
/// text (an escape of half a surrogate pair).
#[derive(Clone, Copy)]
pub(super) struct Pick<const N: usize>(pub(super) &'static [&'static str; N]);

impl<const N: usize> Pick<N> {
    /// Reads a whole text, known to be well-formed; `None` when it cannot be read as an object.
    pub(super) fn read(self, raw: &RawValue) -> Option<Members<'_, N>> {
        self.deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
            .ok()
    }
}

impl<'de, const N: usize> DeserializeSeed<'de> for Pick<N> {
    type Value = Members<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Pick<N> {
    type Value = Members<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = [None; N];
        while let Some(place) = map.next_key_seed(Name(self.0))? {
            match place {
                Some(place) => members[place] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(members)
    }
}

/// Reads a name as its place among the wanted ones.
struct Name(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|wanted| *wanted == name))
    }
}
