//! What an error of PostgreSQL means: permanent or transient, and what may be told of it.
//!
//! Codes are those of PostgreSQL's appendix A. A server's message may quote a row's values
//! (`invalid input syntax for type bigint: "…"`), and so may everything that a trigger raises:
//! such messages are not shown, and detail, hint and context never are.

use std::io;

use postgres::Error;
use postgres::error::DbError;

use crate::db::tables::{GOOD_JOBS, TABLES};
use crate::error::{Failure, Reason, Stage};
use crate::net::tls;

/// Longer messages of a server are cut.
const MESSAGE_MAX_CHARS: usize = 300;

/// Classes whose messages name objects and settings, never a row's values.
const SHOWN_CLASSES: &[&str] = &[
    "08", "0A", "25", "26", "28", "2B", "3D", "3F", "40", "42", "53", "55", "57", "58",
];

/// Makes the failure that an error of PostgreSQL is.
///
/// `what` says what was to be done, as in `read the watermark`.
pub fn failure(stage: Stage, what: &str, error: &Error) -> Failure {
    let (reason, told) = match error.as_db_error() {
        Some(error) => told_by_server(error),
        None => told_by_client(error),
    };
    Failure::new(stage, reason, format!("Cannot {what}: {told}"))
}

/// Tells whether a transaction lost against another and may be run again from its start.
pub fn is_conflict(error: &Error) -> bool {
    matches!(
        error.code().map(|code| code.code()),
        Some("40001" | "40P01")
    )
}

/// Tells whether the connection is gone, so that a new one is needed.
pub fn is_disconnected(error: &Error) -> bool {
    match error.code() {
        Some(code) => code.code().starts_with("08") || code.code().starts_with("57P0"),
        None => kind(error) == ClientError::Connection,
    }
}

/// Tells whether a TLS handshake failed, or was demanded of a server that offers none.
pub(crate) fn is_handshake(error: &Error) -> bool {
    kind(error) == ClientError::Tls
}

/// Returns the reason that a SQLSTATE stands for.
fn reason(code: &str) -> Reason {
    match code {
        // A missing table or column: of ours, since no statement names others but good_jobs.
        "42P01" | "42703" => Reason::TablesMissing,
        // Read-only: most likely a standby, in the midst of a failover.
        "25006" => Reason::DatabaseUnavailable,
        // Idle or long transactions that the server ended, time-outs, locks.
        "25P03" | "25P04" | "57014" | "55P03" | "55006" => Reason::DatabaseBusy,
        _ if code.starts_with("57P0") => Reason::DatabaseUnavailable,
        _ => match code.get(..2).unwrap_or_default() {
            "08" | "58" => Reason::DatabaseUnavailable,
            "40" | "53" => Reason::DatabaseBusy,
            "28" | "3D" => Reason::DatabaseLogin,
            _ => Reason::DatabaseRefused,
        },
    }
}

fn told_by_server(error: &DbError) -> (Reason, String) {
    let code = error.code().code();
    let mut reason = reason(code);
    let mut told = format!("PostgreSQL answered SQLSTATE {code}");

    // A function or a trigger may raise any code with any text, and name what it likes.
    let raised = error.routine() == Some("exec_stmt_raise");
    let class = code.get(..2).unwrap_or_default();
    if SHOWN_CLASSES.contains(&class) && !raised && error.where_().is_none() {
        told.push_str(&format!(", {}", printable(error.message())));
    }
    let objects = [
        ("table", error.table()),
        ("column", error.column()),
        ("constraint", error.constraint()),
    ];
    for (label, name) in objects {
        if let Some(name) = name.filter(|_| !raised) {
            told.push_str(&format!(", {label} {}", printable(name)));
        }
    }

    // The message's language is the server's, but the names in it are ours.
    let names = |name: &str| error.message().contains(name) || error.table() == Some(name);
    match code {
        "42P01" | "42703" if names(GOOD_JOBS) => reason = Reason::DatabaseRefused,
        "42P01" | "42703" => told.push_str("; run `datapass-pull migrate`"),
        "42501" => {
            if let Some(table) = TABLES.iter().find(|table| names(table.name)) {
                told.push_str(&format!(
                    "; a cycle needs {} on {} and USAGE on its sequence",
                    table.privileges.join(", "),
                    table.name
                ));
            } else if names(GOOD_JOBS) {
                told.push_str("; a cycle needs INSERT on good_jobs");
            }
        }
        _ => {}
    }
    (reason, told)
}

/// The kinds of [`Error`] without a SQLSTATE, which the crate keeps to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientError {
    Connection,
    Tls,
    Login,
    Settings,
    Data,
}

/// Tells the kinds apart by their fixed words; the tests hold these against the crate.
fn kind(error: &Error) -> ClientError {
    match error.to_string().split(':').next().unwrap_or_default() {
        "error performing TLS handshake" => ClientError::Tls,
        "authentication error" => ClientError::Login,
        "invalid configuration" if causes(error) == "password missing" => ClientError::Login,
        "invalid configuration" | "invalid connection string" => ClientError::Settings,
        "error communicating with the server"
        | "error connecting to server"
        | "connection closed"
        | "timeout waiting for server"
        | "error parsing response from server"
        | "unexpected message from server" => ClientError::Connection,
        // A value or a column of another type than the statement expects.
        _ => ClientError::Data,
    }
}

fn told_by_client(error: &Error) -> (Reason, String) {
    let causes = causes(error);
    if let Some(refusal) = tls::certificate_refusal(error) {
        return (
            Reason::Certificate,
            format!(
                "the server's certificate is refused ({})",
                tls::refusal_told(refusal, "sslrootcert")
            ),
        );
    }
    match kind(error) {
        ClientError::Tls if causes == "server does not support TLS" => (
            Reason::DatabaseTls,
            "the server offers no TLS, which sslmode demands".to_owned(),
        ),
        ClientError::Tls => (Reason::Tls, format!("the TLS handshake failed: {causes}")),
        ClientError::Login => (Reason::DatabaseLogin, format!("the login failed: {causes}")),
        ClientError::Settings => (
            Reason::Configuration,
            "the address is not usable".to_owned(),
        ),
        ClientError::Connection if causes.is_empty() => {
            (Reason::DatabaseUnavailable, error.to_string())
        }
        ClientError::Connection => (Reason::DatabaseUnavailable, causes),
        // The cause may quote a value; the kind names the column's or parameter's number.
        ClientError::Data => (Reason::DatabaseRefused, error.to_string()),
    }
}

/// Returns what lies behind an error, on one line.
fn causes(error: &Error) -> String {
    let mut told: Vec<String> = Vec::new();
    for cause in tls::chain(error).skip(1) {
        // An io::Error that wraps another prints just that one.
        if cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.get_ref().is_some())
        {
            continue;
        }
        told.push(printable(&cause.to_string()));
    }
    told.join(": ")
}

/// Makes a server's text safe to print: one line, no control or direction characters, cut.
pub(crate) fn printable(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(MESSAGE_MAX_CHARS)
        .map(|char| match char {
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => ' ',
            char if char.is_control() => ' ',
            char => char,
        })
        .collect();
    if text.chars().nth(MESSAGE_MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
#[path = "sqlstate_tests.rs"]
mod tests;
