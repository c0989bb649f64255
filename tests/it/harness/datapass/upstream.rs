//! The state of the fake DataPass: demandes, account, tokens, and the options of the server.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::demande::{DEFINITION, Demande, paris};

/// The server's clock, for the `Date` header and the age of tokens.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The machine's clock plus this offset.
    Shifted(TimeDelta),
    /// It always shows this time.
    Fixed(DateTime<Utc>),
}

/// The order of rows with the same `created_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// The row added last comes first.
    Stable,
    /// Their order is reversed with every listing request.
    Swapping,
}

/// The state of the fake DataPass. All fields may be changed at any time.
#[derive(Debug)]
pub struct Upstream {
    pub client_id: String,
    pub client_secret: String,
    /// The definitions that the account has access to, with their names.
    pub definitions: BTreeMap<String, String>,
    /// Whether new tokens have the scope `read_authorizations`.
    pub scope: bool,
    /// The lifetime of a new token, in seconds.
    pub token_lifetime: i64,
    /// Whether the token response contains the lifetime.
    pub expires_in: bool,
    pub default_limit: usize,
    /// The largest page served; a larger `limit` is reduced silently.
    pub cap: usize,
    pub ties: Ties,
    /// Whether responses are compressed for clients that accept it.
    pub gzip: bool,
    pub clock: Clock,
    /// Whether responses have a `Date` header.
    pub date: bool,
    entries: Vec<Entry>,
    tokens: HashMap<String, Token>,
    listings: u64,
}

/// An element of the listing: the fields that the server filters and sorts by, and its JSON.
#[derive(Debug)]
struct Entry {
    id: i64,
    definition_id: String,
    state: String,
    created_at: DateTime<Utc>,
    shown: Value,
    text: Arc<str>,
}

#[derive(Debug)]
struct Token {
    expires_at: DateTime<Utc>,
    scope: bool,
    revoked: bool,
}

/// Whether a token gives access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenState {
    Valid,
    Unknown,
    Insufficient,
}

impl Default for Upstream {
    fn default() -> Self {
        let definitions = [
            (DEFINITION, "Proactivité pour les étudiants boursiers"),
            ("api_particulier", "API Particulier"),
        ];
        Self {
            client_id: "client-of-the-tests".to_owned(),
            client_secret: "canari-secret-+&=%é".to_owned(),
            definitions: definitions.map(|(id, name)| (id.to_owned(), name.to_owned())).into(),
            scope: true,
            token_lifetime: 7200,
            expires_in: true,
            default_limit: 10,
            cap: 1000,
            ties: Ties::Stable,
            gzip: false,
            clock: Clock::Shifted(TimeDelta::zero()),
            date: true,
            entries: Vec::new(),
            tokens: HashMap::new(),
            listings: 0,
        }
    }
}

impl Upstream {
    /// Returns the server's time.
    pub fn now(&self) -> DateTime<Utc> {
        match self.clock {
            Clock::Shifted(by) => Utc::now() + by,
            Clock::Fixed(time) => time,
        }
    }

    /// Adds a demande in its state.
    pub fn add(&mut self, demande: Demande) {
        let shown = demande.to_json();
        self.push(demande.id, &demande.definition_id, &demande.state, demande.created_at, shown);
    }

    /// Adds any JSON to the listing, as an element of the default definition.
    pub fn add_raw(&mut self, id: i64, created_at: DateTime<Utc>, shown: Value) {
        self.push(id, DEFINITION, "validated", created_at, shown);
    }

    fn push(
        &mut self,
        id: i64,
        definition_id: &str,
        state: &str,
        created_at: DateTime<Utc>,
        shown: Value,
    ) {
        assert!(self.entries.iter().all(|entry| entry.id != id), "demande {id} exists already");
        // Newest first; among ties the one added last comes first.
        let place = self.entries.partition_point(|entry| entry.created_at > created_at);
        let entry = Entry {
            id,
            definition_id: definition_id.to_owned(),
            state: state.to_owned(),
            created_at,
            text: shown.to_string().into(),
            shown,
        };
        self.entries.insert(place, entry);
    }

    fn entry(&mut self, id: i64) -> &mut Entry {
        self.entries
            .iter_mut()
            .find(|entry| entry.id == id)
            .unwrap_or_else(|| panic!("there is no demande {id}"))
    }

    /// Changes the JSON of a demande, not the fields that the server filters and sorts by.
    pub fn edit(&mut self, id: i64, change: impl FnOnce(&mut Value)) {
        let entry = self.entry(id);
        change(&mut entry.shown);
        entry.text = entry.shown.to_string().into();
    }

    fn enter(&mut self, id: i64, state: &str, fields: &[(&str, Value)]) {
        state.clone_into(&mut self.entry(id).state);
        self.edit(id, |shown| {
            shown["state"] = json!(state);
            for (key, value) in fields {
                shown[*key] = value.clone();
            }
        });
    }

    /// Validates a demande at a time, as a first approval, an approval after a reopening, and a
    /// refused or cancelled reopening do.
    pub fn validate(&mut self, id: i64, time: DateTime<Utc>) {
        let fields = [("last_validated_at", json!(paris(time))), ("reopening", json!(false))];
        self.enter(id, "validated", &fields);
    }

    /// Reopens a validated demande: it is a draft again and leaves the listing.
    pub fn reopen(&mut self, id: i64) {
        let now = json!(paris(self.now()));
        self.enter(id, "draft", &[("reopening", json!(true)), ("reopened_at", now)]);
    }

    /// Revokes a demande: it leaves the listing.
    pub fn revoke(&mut self, id: i64) {
        self.enter(id, "revoked", &[]);
    }

    /// Removes a demande permanently.
    pub fn remove(&mut self, id: i64) {
        self.entry(id);
        self.entries.retain(|entry| entry.id != id);
    }

    /// Removes all demandes.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Returns the ids of the validated demandes that the account may access, in listing order.
    pub fn listed(&self) -> Vec<i64> {
        self.visible(&["validated"]).map(|entry| entry.id).collect()
    }

    fn visible<'a>(&'a self, states: &'a [&str]) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| {
            self.definitions.contains_key(&entry.definition_id)
                && (states.is_empty() || states.contains(&entry.state.as_str()))
        })
    }

    /// Serializes one page: consecutive rows of the current list.
    pub(super) fn page(&mut self, states: &[&str], limit: usize, offset: usize) -> Vec<u8> {
        self.listings += 1;
        let mut rows: Vec<&Entry> = self.visible(states).collect();
        if self.ties == Ties::Swapping && self.listings.is_multiple_of(2) {
            rows.reverse();
            rows.sort_by_key(|entry| Reverse(entry.created_at));
        }
        let texts: Vec<&str> =
            rows.iter().skip(offset).take(limit.min(self.cap)).map(|entry| &*entry.text).collect();
        format!("[{}]", texts.join(",")).into_bytes()
    }

    /// Issues a token.
    pub(super) fn issue_token(&mut self) -> String {
        let token = format!("canari-token-{}-{:016x}", self.tokens.len() + 1, fastrand::u64(..));
        let expires_at = self.now() + TimeDelta::seconds(self.token_lifetime);
        let issued = Token { expires_at, scope: self.scope, revoked: false };
        self.tokens.insert(token.clone(), issued);
        token
    }

    /// Validates a token.
    pub(super) fn token_state(&self, token: &str) -> TokenState {
        match self.tokens.get(token) {
            Some(token) if token.expires_at <= self.now() => TokenState::Unknown,
            Some(token) if token.revoked || !token.scope => TokenState::Insufficient,
            Some(_) => TokenState::Valid,
            None => TokenState::Unknown,
        }
    }

    /// Expires all tokens: the API then answers with 401.
    pub fn expire_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Revokes all tokens: the API then answers with 422.
    pub fn revoke_tokens(&mut self) {
        self.tokens.values_mut().for_each(|token| token.revoked = true);
    }
}
