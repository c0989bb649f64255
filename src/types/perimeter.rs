//! Where an authorization holds: communes, departements and regions, by their INSEE codes.

use std::str::FromStr;

use strum::{EnumString, IntoStaticStr};

use super::{Invalid, digits};

/// The INSEE code of a commune: five characters, `^([013-9]\d|2[AB1-9])\d{3}$`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommuneCode([u8; 5]);

impl CommuneCode {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        // Five bytes of ASCII, by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for CommuneCode {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let code = text.as_bytes().try_into().ok().filter(is_commune);
        code.map(Self).ok_or(Invalid("not a commune code"))
    }
}

fn is_commune(code: &[u8; 5]) -> bool {
    let [first, second, rest @ ..] = code;
    let is_departement = match first {
        b'2' => matches!(second, b'A' | b'B' | b'1'..=b'9'),
        _ => first.is_ascii_digit() && second.is_ascii_digit(),
    };
    is_departement && rest.iter().all(u8::is_ascii_digit)
}

/// The kind of an [`Entity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase", parse_err_ty = Invalid, parse_err_fn = unknown)]
pub enum EntityType {
    /// `commune`.
    Commune,
    /// `departement`.
    Departement,
    /// `region`.
    Region,
}

fn unknown(_: &str) -> Invalid {
    Invalid("unknown")
}

/// A commune, departement or region, by its INSEE code.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entity {
    kind: EntityType,
    code: Box<str>,
}

impl Entity {
    /// Reads the code of an entity of this kind: `69123` or `2A004` for a commune; `01` to `95`
    /// without `20`, `2A`, `2B`, `971` … for a departement; two digits for a region.
    pub fn new(kind: EntityType, code: &str) -> Result<Self, Invalid> {
        match kind {
            EntityType::Commune => code.parse::<CommuneCode>().map(drop)?,
            EntityType::Departement if is_departement(code) => {}
            EntityType::Departement => return Err(Invalid("not a departement code")),
            EntityType::Region if code.len() == 2 && digits::<u8>(code).is_some() => {}
            EntityType::Region => return Err(Invalid("not a region code")),
        }
        Ok(Self { kind, code: code.into() })
    }

    /// Returns the word of its kind, and its INSEE code.
    pub fn kind_and_code(&self) -> (&'static str, &str) {
        (self.kind.into(), &self.code)
    }
}

/// Returns whether this is the code of a departement or of an overseas collectivity (INSEE, Code
/// officiel géographique).
fn is_departement(code: &str) -> bool {
    match code.as_bytes() {
        b"2A" | b"2B" => true,
        b"00" | b"20" => false,
        [b'0'..=b'8', b'0'..=b'9'] | [b'9', b'0'..=b'5'] => true,
        [b'9', b'7', b'1'..=b'8'] | [b'9', b'8', b'4' | b'6'..=b'9'] => true,
        _ => false,
    }
}

/// Where an authorization holds: an entity, communes typed by hand, or both; never nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Perimeter {
    entity: Option<Entity>,
    communes: Box<[CommuneCode]>,
}

impl Perimeter {
    /// Joins both parts; at least one must be there.
    pub fn new(entity: Option<Entity>, communes: Vec<CommuneCode>) -> Result<Self, Invalid> {
        if entity.is_none() && communes.is_empty() {
            return Err(Invalid("missing"));
        }
        Ok(Self { entity, communes: communes.into() })
    }

    /// Returns the entity.
    pub fn entity(&self) -> Option<&Entity> {
        self.entity.as_ref()
    }

    /// Returns the communes typed by hand, in their order.
    pub fn communes(&self) -> &[CommuneCode] {
        &self.communes
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{kept, refused};
    use super::*;

    #[test]
    fn perimeters() {
        for text in ["69123", "2A004", "2B033", "97105", "01001"] {
            kept(text, |it: CommuneCode| it.as_str().to_owned());
        }
        for text in ["", "6912", "691234", "20123", "2C123", "6A123", "2A00x", "6912é"] {
            assert_eq!(refused::<CommuneCode>(text), "not a commune code", "{text}");
        }
        let departement = |code: &str| Entity::new(EntityType::Departement, code).is_ok();
        let real = (1..=95).filter(|n| *n != 20).map(|n| format!("{n:02}"));
        let overseas = (971..=978).chain([984, 986, 987, 988, 989]).map(|n| n.to_string());
        let real: Vec<_> = real.chain(overseas).chain(["2A".into(), "2B".into()]).collect();
        for code in &real {
            assert!(departement(code), "{code}");
        }
        for code in (0..1000).flat_map(|n| [n.to_string(), format!("{n:02}"), format!("{n:03}")]) {
            assert_eq!(departement(&code), real.contains(&code), "{code}");
        }
        assert!(Entity::new(EntityType::Region, "84").is_ok());
        assert!(Entity::new(EntityType::Region, "8").is_err());
        assert!(Entity::new(EntityType::Commune, "69").is_err());
        assert_eq!(Perimeter::new(None, vec![]), Err(Invalid("missing")));
        for kind in ["commune", "departement", "region"] {
            kept(kind, |it: EntityType| <&str>::from(it).to_owned());
        }
        assert_eq!(refused::<EntityType>("Region"), "unknown");
    }
}
