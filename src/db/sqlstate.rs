//! What an error of PostgreSQL means: permanent or transient, and what of it is shown.
//!
//! Codes are those of PostgreSQL's appendix A. A server's message may quote a row's values
//! (`invalid input syntax for type bigint: "…"`), and so may everything that a trigger raises:
//! such messages are not shown, and detail, hint and context never are. PgBouncer reports its own
//! errors as 08P01, which says nothing: its words decide (`src/client.c` and others of PgBouncer).

use std::io;

use postgres::Error;
use postgres::error::DbError;

use crate::db::tables::{GOOD_JOBS, PRIVILEGES, WITH_SEQUENCE};
use crate::error::{Failure, Reason, Stage};
use crate::net::tls;

/// Longer messages of a server are truncated.
const MESSAGE_MAX_CHARS: usize = 300;

/// Classes whose messages name objects and settings, never a row's values.
const SHOWN_CLASSES: &[&str] =
    &["08", "0A", "25", "26", "28", "2B", "3D", "3F", "40", "42", "53", "55", "57", "58"];

/// What is wrong with a pooler of statements.
pub(crate) const STATEMENT_POOLING: &str = "the pooler in between pools statements, and a cycle needs \
    transactions: set its pool_mode to transaction or session";

/// How PgBouncer's refusals of a password end, whatever its method.
const AUTHENTICATION: &str = "authentication failed";
/// How the driver's errors of a handshake begin.
const HANDSHAKE: &str = "error performing TLS handshake";

/// The system's errors for too many open files, of the process and of the machine, and for memory.
const RESOURCE_ERRORS: [i32; 3] = [24, 23, 12];

/// Returns the failure that an error of PostgreSQL means.
///
/// `what` is what was to be done, as in `read the watermark`; `table` the one that was written to.
pub fn failure(stage: Stage, what: &str, table: Option<&str>, error: &Error) -> Failure {
    let (reason, why) = match error.as_db_error() {
        Some(error) => classify_db_error(table, error),
        None => classify_client_error(error),
    };
    Failure::new(stage, reason, format!("Cannot {what}: {why}"))
}

/// Returns whether a transaction conflicted with another and may be run again from its start.
pub fn is_conflict(error: &Error) -> bool {
    matches!(error.code().map(|code| code.code()), Some("40001" | "40P01"))
}

/// Returns whether a TLS handshake failed, or was required of a server that offers none.
pub(crate) fn is_handshake(error: &Error) -> bool {
    error.to_string() == HANDSHAKE
}

/// Returns the reason that a SQLSTATE stands for.
fn reason(code: &str) -> Reason {
    match (code.get(..2).unwrap_or_default(), code) {
        // A missing table or column: of ours, since no statement names others but good_jobs.
        (_, "42P01" | "42703") => Reason::TablesMissing,
        // Read-only: most likely a standby, during a failover.
        ("08" | "58", _) | (_, "25006") => Reason::DatabaseUnavailable,
        _ if code.starts_with("57P0") => Reason::DatabaseUnavailable,
        // Idle or long transactions that the server ended, time-outs, locks.
        ("40" | "53", _) | (_, "25P03" | "25P04" | "57014" | "55P03" | "55006") => {
            Reason::DatabaseBusy
        }
        ("28" | "3D", _) => Reason::DatabaseLogin,
        _ => Reason::DatabaseRefused,
    }
}

fn classify_db_error(written: Option<&str>, error: &DbError) -> (Reason, String) {
    let code = error.code().code();
    if code == "08P01"
        && let Some(refusal) = classify_pooler_error(error.message())
    {
        return refusal;
    }
    let mut reason = reason(code);
    let mut why = format!("PostgreSQL answered SQLSTATE {code}");

    // A function or a trigger may raise any code with any text, and name what it likes.
    let raised = error.routine() == Some("exec_stmt_raise");
    let class = code.get(..2).unwrap_or_default();
    // 22001 names the type that is too short, and not the value.
    let is_shown = SHOWN_CLASSES.contains(&class) || code == "22001";
    if is_shown && !raised && error.where_().is_none() {
        why.push_str(&format!(", {}", printable(error.message())));
    }
    let objects = [
        ("table", error.table()),
        ("column", error.column()),
        ("type", error.datatype()),
        ("constraint", error.constraint()),
    ];
    let named = |(label, name): (_, Option<&str>)| Some(format!(", {label} {}", printable(name?)));
    if !raised {
        why.extend(objects.into_iter().filter_map(named));
    }

    // The message's language is the server's, but the names in it are ours.
    let names = |name: &str| error.message().contains(name) || error.table() == Some(name);
    match code {
        "42P01" | "42703" if names(GOOD_JOBS) => reason = Reason::DatabaseRefused,
        "42P01" | "42703" => why.push_str("; run `datapass-pull migrate`"),
        "42501" => {
            let needs = PRIVILEGES.iter().find(|it| names(it.0));
            why.extend(needs.map(|(table, privileges)| {
                let has_sequence = WITH_SEQUENCE.contains(table);
                let sequence = if has_sequence { " and USAGE on its sequence" } else { "" };
                format!("; a cycle needs {privileges} on {table}{sequence}")
            }));
        }
        "23505" if !raised => why.extend(sequence_advice(error)),
        // The server names no table for a value that a type refuses.
        _ if class == "22" => {
            why.extend(written.map(|table| {
                format!(", table {table}; `datapass-pull check` compares its columns")
            }))
        }
        _ => {}
    }
    (reason, why)
}

/// Returns what to do about a primary key that a sequence gave twice, as after a restore.
fn sequence_advice(error: &DbError) -> Option<String> {
    let table = error.table().filter(|table| WITH_SEQUENCE.contains(table))?;
    let is_key = error.constraint().and_then(|name| name.strip_prefix(table)) == Some("_pkey");
    is_key.then(|| {
        format!(
            "; the sequence of its id is behind the table, as after a restore: run select \
             setval(pg_get_serial_sequence('{table}', 'id'), (select max(id) from {table}))"
        )
    })
}

/// Returns what a message of PgBouncer means; none for what passes, and for PostgreSQL's own.
fn classify_pooler_error(message: &str) -> Option<(Reason, String)> {
    // The name of a user, a database or a parameter follows a colon, or stands in quotes.
    let (words, detail) = message.trim().split_once(": ").unwrap_or((message.trim(), ""));
    let login = |words| format!("PgBouncer refuses user, password or database ({words})");
    let parameter = |text: &str| {
        // Its value may follow, and is not shown.
        let name = printable(text.split('=').next().unwrap_or_default());
        format!(
            "PgBouncer refuses the startup parameter {name}: remove it from DATABASE_URL, or add it \
             to ignore_startup_parameters"
        )
    };
    let refusal = match words {
        "no such user"
        | "no such database"
        | "login rejected"
        | "unix socket login rejected"
        | "empty password returned by client"
        | "password too long"
        | "username too long"
        | "not allowed" => (Reason::DatabaseLogin, login(words)),
        _ if words.contains(AUTHENTICATION) => {
            // What follows may be the name of the user.
            let words = words.split_inclusive(AUTHENTICATION).next().unwrap_or_default();
            (Reason::DatabaseLogin, login(&printable(words)))
        }
        _ if words.starts_with("database ") && words.ends_with(" is disabled") => {
            (Reason::DatabaseLogin, login("database is disabled"))
        }
        "unsupported startup parameter" | "unsupported startup parameter in options" => {
            (Reason::Configuration, parameter(detail))
        }
        "unsupported options startup parameter" => (Reason::Configuration, parameter("options")),
        "SSL required" => {
            let why = "PgBouncer requires TLS: set sslmode in DATABASE_URL";
            (Reason::DatabaseTls, why.to_owned())
        }
        _ if words.ends_with("not allowed in statement pooling mode") => {
            (Reason::DatabaseRefused, STATEMENT_POOLING.to_owned())
        }
        _ => return None,
    };
    Some(refusal)
}

/// Distinguishes the kinds of errors without a SQLSTATE by their fixed words, since the driver keeps
/// the kind to itself; the tests compare these with the driver.
fn classify_client_error(error: &Error) -> (Reason, String) {
    let (kind, causes) = (error.to_string(), causes(error));
    if let Some(refusal) = tls::certificate_refusal(error, "sslrootcert") {
        let why = format!("the server's certificate is rejected ({refusal})");
        return (Reason::Certificate, why);
    }
    let lacks_resources = tls::chain(error).any(|cause| {
        let code = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        code.is_some_and(|code| RESOURCE_ERRORS.contains(&code))
    });
    match (kind.as_str(), causes.as_str()) {
        _ if lacks_resources => (Reason::Resources, causes),
        (HANDSHAKE, "server does not support TLS") => {
            (Reason::DatabaseTls, "the server offers no TLS, which sslmode requires".to_owned())
        }
        (HANDSHAKE, _) => (Reason::Tls, format!("the TLS handshake failed: {causes}")),
        ("authentication error", _) | ("invalid configuration", "password missing") => {
            (Reason::DatabaseLogin, format!("the login failed: {causes}"))
        }
        ("invalid configuration" | "invalid connection string", _) => {
            (Reason::Configuration, "the settings of DATABASE_URL cannot be used".to_owned())
        }
        (
            "error communicating with the server"
            | "error connecting to server"
            | "connection closed"
            | "timeout waiting for server"
            | "error parsing response from server"
            | "unexpected message from server",
            why,
        ) => (Reason::DatabaseUnavailable, if why.is_empty() { kind } else { causes }),
        // A value or a column of another type than the statement expects. The cause may quote a
        // value; the kind names the number of the column or parameter.
        _ => (Reason::DatabaseRefused, kind),
    }
}

/// Returns the causes of an error, on one line.
fn causes(error: &Error) -> String {
    let causes = tls::chain(error).skip(1).map(|cause| printable(&cause.to_string()));
    let mut causes: Vec<String> = causes.collect();
    // An io::Error that wraps another prints just that one.
    causes.dedup();
    causes.join(": ")
}

/// Makes a server's text safe to print: one line, no control or direction characters, truncated.
fn printable(text: &str) -> String {
    let is_direction = |char| matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = text.replace(|char: char| char.is_control() || is_direction(char), " ");
    match shown.char_indices().nth(MESSAGE_MAX_CHARS) {
        Some((end, _)) => shown.get(..end).unwrap_or_default().to_owned() + "…",
        None => shown,
    }
}

#[cfg(test)]
mod tests;
