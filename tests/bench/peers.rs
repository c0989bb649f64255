//! Alternatives to the tool: a shell script, a short Python script, a dlt pipeline.
//!
//! They are in `peers/`, as simple as a user would write them. None of them proves that its listing
//! is complete, and none writes jobs, rejections or a watermark; all are timed on a cycle that finds
//! nothing new.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::Database;
use crate::measure::{Upstream, pairs, peak_bytes, run};

/// The packages that the Python alternatives need.
const PACKAGES: [&str; 3] = ["requests==2.34.2", "psycopg[binary]==3.3.9", "dlt[postgres]==1.31.0"];

const TABLE: &str = "create table pulled (public_id text primary key, id bigint, siret text,
                                          level text, last_validated_at timestamptz)";

/// Makes the Python environment, once, and returns its interpreter.
fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    let python = folder.join("bin/python");
    if !folder.join("ready").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        run(Command::new(&python).args(["-m", "pip", "install", "-q"]).args(PACKAGES));
        std::fs::write(folder.join("ready"), "").unwrap();
    }
    python
}

/// Times each peer against the tool over `count` demandes.
pub fn peers(count: usize) {
    let upstream = Upstream::start(count, Duration::ZERO, false);
    let database = Database::migrated();
    database.exec(TABLE);
    let state = tempfile::tempdir().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/peers");
    let peer = |program: &Path, script: &str| {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin");
        // dlt requires a password, even if the server does not.
        command
            .env("CREDENTIALS__PASSWORD", "unused")
            .env("PIPELINES_DIR", state.path())
            .env("RUNTIME__DLTHUB_TELEMETRY", "false");
        upstream.configure(&mut command, &database);
        command.arg(folder.join(script));
        command
    };
    let python = python();
    let peers = [
        ("curl, jq and psql", Path::new("/bin/sh"), "pull.sh"),
        ("Python, requests and psycopg", &python, "pull.py"),
        ("dlt", &python, "pull_dlt.py"),
    ];
    run(&mut upstream.cycle(&database));
    for (name, program, script) in peers {
        run(&mut peer(program, script));
        let pair =
            pairs(|| run(&mut upstream.cycle(&database)), || run(&mut peer(program, script)));
        println!(
            "peers {count}: {name:<29} {:>6.1} x   tool {:>8.1} ms  peer {:>8.1} ms, peak {:.0} MB",
            pair.ratio,
            pair.baseline.as_secs_f64() * 1e3,
            pair.tool.as_secs_f64() * 1e3,
            peak_bytes(&peer(program, script)) as f64 / 1e6
        );
    }
}
