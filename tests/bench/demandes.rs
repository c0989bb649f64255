//! Demandes as large as real ones, prepared as the pages of one listing.
//!
//! A real one has 8 to 12 KB: two `habilitations` that repeat its `data`, an `insee_payload` of 3
//! to 4 KB and five to twelve events. Three of ten are of the definition that is pulled.

use std::fmt::Write as _;
use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::harness::datapass::{DEFINITION, at, paris, siret};

/// A listing, newest first, as one string; each page is a slice of it.
pub struct Listing {
    text: String,
    /// The offset of each demande, and the end of the last one.
    starts: Vec<usize>,
}

impl Listing {
    /// Makes `count` demandes.
    pub fn new(count: usize) -> Self {
        let (mut text, mut starts) = (String::new(), Vec::with_capacity(count + 1));
        for id in (1..=count as u64).rev() {
            starts.push(text.len());
            let _ = write!(text, "{},", demande(id));
        }
        starts.push(text.len());
        Self { text, starts }
    }

    /// Returns the rows of a page, without the brackets of the array.
    pub fn rows(&self, offset: usize, limit: usize) -> &str {
        let Range { start, end } = self.span(offset, limit);
        self.text[start..end].trim_end_matches(',')
    }

    fn span(&self, offset: usize, limit: usize) -> Range<usize> {
        let count = self.starts.len() - 1;
        let first = offset.min(count);
        self.starts[first]..self.starts[first.saturating_add(limit).min(count)]
    }
}

/// Returns whether a demande is of the definition that is pulled.
pub fn is_wanted(id: u64) -> bool {
    id % 10 < 3
}

fn demande(id: u64) -> Value {
    // The same listing in each run
    let mut rng = fastrand::Rng::with_seed(id);
    let created: DateTime<Utc> = at("2024-01-08T07:00:00.250Z") + TimeDelta::minutes(id as i64 * 5);
    let validated = created + TimeDelta::minutes(rng.i64(60..30_000));
    let definition = if is_wanted(id) { DEFINITION } else { "api_particulier" };
    let data = if is_wanted(id) { cnous(&mut rng) } else { particulier(&mut rng) };
    let habilitation = |nth: u64| {
        json!({
            "id": id * 2 + nth, "slug": "portail-des-aides", "revoked": false, "state": "active",
            "created_at": paris(validated), "data": data, "definition_id": definition,
            "authorization_request_class": "AuthorizationRequest::Demande",
        })
    };
    let events: Vec<Value> = (0..rng.u64(5..=12))
        .map(|nth| {
            let time = paris(created + TimeDelta::hours(nth as i64));
            let names = ["create", "submit", "request_changes", "approve", "reopen"];
            json!({"id": id * 20 + nth, "name": names[nth as usize % 5], "created_at": time})
        })
        .collect();
    json!({
        "id": id,
        "public_id": format!("{:08x}-{:04x}-4{:03x}-a{:03x}-{id:012x}",
            rng.u32(..), rng.u16(..), rng.u16(..0x1000), rng.u16(..0x1000)),
        "type": "AuthorizationRequest::Demande", "definition_id": definition, "state": "validated",
        "form_uid": "portail-des-aides", "data": data,
        "created_at": paris(created), "last_submitted_at": paris(created + TimeDelta::hours(2)),
        "last_validated_at": paris(validated), "reopening": false, "reopened_at": null,
        "organisation": {"id": id % 997, "siret": siret(2_000_000_000_000 + id),
            "insee_payload": insee(&mut rng)},
        "applicant": {"id": id % 499, "email": "prenom.nom@collectivite.example",
            "given_name": "Prénom", "family_name": "Nom", "phone_number": "0600000000"},
        "habilitations": [habilitation(0), habilitation(1)],
        "events": events,
    })
}

fn cnous(rng: &mut fastrand::Rng) -> Value {
    let communes: Vec<String> =
        (0..rng.usize(0..20)).map(|_| format!("{}", rng.u32(30_000..95_999))).collect();
    json!({
        "intitule": "Tarification sociale des transports et de la restauration scolaire",
        "description": words(rng, 700), "echelon_bourse": "3", "entity_type": "commune",
        "code_insee_entity": "69123", "manual_code_insee_communes": json!(communes).to_string(),
        "premiere_date_transmission": "2026-09-01",
        "contact_metier_email": "contact@collectivite.example",
        "contact_metier_given_name": "Prénom", "contact_metier_family_name": "Nom",
        "contact_metier_job_title": "Responsable du service", "contact_metier_phone_number": "0600000000",
    })
}

fn particulier(rng: &mut fastrand::Rng) -> Value {
    json!({
        "intitule": "Portail famille", "description": words(rng, 900),
        "scopes": "[\"cnaf_quotient_familial\", \"cnaf_allocataires\", \"cnaf_enfants\"]",
        "cadre_juridique_nature": words(rng, 120), "cadre_juridique_url": "https://example.test/texte",
        "destinataire_donnees_caractere_personnel": words(rng, 60),
        "duree_conservation_donnees_caractere_personnel": "12",
    })
}

fn insee(rng: &mut fastrand::Rng) -> Value {
    let establishment = |name: String| {
        json!({
            "siren": "200000000", "nic": "00015", "siret": "20000000000015",
            "statutDiffusionEtablissement": "O", "dateCreationEtablissement": "1983-03-01",
            "trancheEffectifsEtablissement": "32", "anneeEffectifsEtablissement": "2021",
            "activitePrincipaleRegistreMetiersEtablissement": null, "etablissementSiege": true,
            "nombrePeriodesEtablissement": 4, "libelle": name,
            "adresseEtablissement": {
                "complementAdresseEtablissement": null, "numeroVoieEtablissement": "1",
                "typeVoieEtablissement": "PLACE", "libelleVoieEtablissement": "DE LA COMEDIE",
                "codePostalEtablissement": "69001", "libelleCommuneEtablissement": "LYON",
                "codeCommuneEtablissement": "69381", "codePaysEtrangerEtablissement": null,
            },
        })
    };
    let periods: Vec<Value> = (0..4)
        .map(|_| {
            json!({
                "dateFin": null, "dateDebut": "2008-01-01", "etatAdministratifEtablissement": "A",
                "changementEtatAdministratifEtablissement": false, "enseigne1Etablissement": null,
                "activitePrincipaleEtablissement": "84.11Z",
                "nomenclatureActivitePrincipaleEtablissement": "NAFRev2",
                "caractereEmployeurEtablissement": "O", "libelle": words(rng, 60),
            })
        })
        .collect();
    json!({
        "header": {"statut": 200, "message": "OK"},
        "etablissement": establishment(words(rng, 80)),
        "siege": establishment(words(rng, 80)), "periodesEtablissement": periods,
    })
}

fn words(rng: &mut fastrand::Rng, chars: usize) -> String {
    const WORDS: [&str; 12] = [
        "accès",
        "aux",
        "données",
        "pour",
        "les",
        "élèves",
        "de",
        "la",
        "commune",
        "d\"usage",
        "simplifié",
        "bourse",
    ];
    let mut text = String::new();
    while text.len() < chars {
        text.push_str(WORDS[rng.usize(..WORDS.len())]);
        text.push(' ');
    }
    text
}
