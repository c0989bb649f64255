//! The fake DataPass as a process of its own, for the demo or a terminal.
//!
//! It prints the four settings to use it and `ready`, then executes the commands on standard
//! input, prints `done` after each, and ends when its input ends:
//!
//! ```text
//! add ID TIME         a valid demande, validated at TIME (RFC 3339)
//! other ID            a demande of another definition
//! draft ID            a demande that is not validated yet
//! bad ID TIME         a validated demande with an invalid SIRET
//! repair ID           gives it a valid SIRET
//! validate ID TIME    validates a draft or a reopened demande
//! reopen ID | revoke ID | remove ID
//! ```

// A test program may panic and print.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::io::BufRead;

use serde_json::json;

// The demo uses only a part of it.
#[allow(dead_code, unused_imports)]
#[path = "../it/harness/datapass/mod.rs"]
mod datapass;

use datapass::{DataPass, Demande, Upstream, at, siret};

fn main() {
    let server = DataPass::start();
    let (id, secret) = server.credentials();
    println!("DATAPASS_AUTH_URL {}", server.auth_url());
    println!("DATAPASS_API_BASE_URL {}", server.api_base_url());
    println!("DATAPASS_CLIENT_ID {id}");
    println!("DATAPASS_CLIENT_SECRET {secret}");
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        match server.with(|upstream| execute(upstream, &line)) {
            Some(()) => println!("done"),
            None => println!("unknown command: {line}"),
        }
    }
}

/// Executes a command; `None` when it is unknown.
fn execute(upstream: &mut Upstream, line: &str) -> Option<()> {
    let mut words = line.split_whitespace();
    let command = words.next()?;
    let id: i64 = words.next()?.parse().ok()?;
    let demande = Demande::cnous(id);
    match (command, words.next().map(at)) {
        ("add", Some(time)) => upstream.add(demande.validated(time)),
        ("other", None) => upstream.add(Demande::other(id)),
        ("draft", None) => upstream.add(demande.never_validated().state("draft")),
        ("bad", Some(time)) => upstream.add(demande.validated(time).siret("12345678900000")),
        ("repair", None) => upstream.edit(id, |shown| {
            shown["organisation"]["siret"] = json!(siret(2_000_000_000_000 + id.unsigned_abs()));
        }),
        ("validate", Some(time)) => upstream.validate(id, time),
        ("reopen", None) => upstream.reopen(id),
        ("revoke", None) => upstream.revoke(id),
        ("remove", None) => upstream.remove(id),
        _ => return None,
    }
    Some(())
}
