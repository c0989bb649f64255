//! `/definitions`: what the account sees. Without access it gets an empty listing, which looks like
//! "nothing to do".

use reqwest::blocking::Client;

use crate::cycle::authenticate::Session;
use crate::error::{Failure, Reason, Result, Stage};
use crate::net::body::read_json;
use crate::net::http::Call;

/// How many ids a message names.
const MAX_SHOWN: usize = 10;
/// How long an id is that a message names.
const MAX_SHOWN_CHARS: usize = 100;

/// Returns the ids of the definitions that the account sees.
pub fn visible(session: &Session) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Definition {
        id: String,
    }
    let url = session.upstream.resource("definitions");
    let build = |client: &Client| client.get(&url);
    let definitions: Vec<Definition> = session
        .send(&Call::new(Stage::List, &build), &mut |body, _| {
            read_json(body, "the definitions are not an array of objects with an id")
        })?;
    Ok(definitions.into_iter().map(|it| it.id).collect())
}

/// Returns the failure of an account that sees these definitions, but not ours.
///
/// A response may hold anything: what does not look like an id of DataPass is not named.
pub fn no_access(visible: &[String]) -> Failure {
    let is_id = |id: &&str| {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        id.len() <= MAX_SHOWN_CHARS && id.contains('_') && id.chars().all(is_allowed)
    };
    let ids = visible.iter().map(String::as_str);
    let mut seen: Vec<&str> = ids.filter(is_id).take(MAX_SHOWN).collect();
    if visible.len() > seen.len() {
        seen.push(if seen.is_empty() { "others" } else { "and others" });
    }
    let seen = if seen.is_empty() { "nothing".to_owned() } else { seen.join(", ") };
    let message = format!(
        "The account does not see the definition: check DATAPASS_DEFINITION_ID, or ask DataPass \
         for access; it sees {seen}"
    );
    Failure::new(Stage::List, Reason::NoDefinition, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_ids_are_named_and_no_other_text() {
        let message = |ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            no_access(&ids).message
        };
        assert!(message(&[]).ends_with("; it sees nothing"));
        assert!(message(&["Zoe"]).ends_with("; it sees others"));
        assert!(message(&["api_a", "b_1"]).ends_with("; it sees api_a, b_1"));
        assert!(message(&["api_a", "A_b", "Zoe", "x\n_"]).ends_with("; it sees api_a, and others"));
        assert!(message(&["a_a"; 11]).ends_with("a_a, a_a, and others"));
    }
}
