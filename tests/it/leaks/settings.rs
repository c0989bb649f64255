//! Leaks from settings: URLs, files, the command line, the process itself.

use std::fs;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{PASSWORD, assert_clean, assert_no_leak, assert_no_leak_in_both, entry};
use crate::harness::*;

/// Writes a database URL in both formats.
fn url_formats(role: &str, password: &str, host: &str, port: u16, name: &str) -> [String; 2] {
    let encoded = utf8_percent_encode(password, NON_ALPHANUMERIC);
    [
        format!("postgres://{role}:{encoded}@{host}:{port}/{name}"),
        format!("postgresql://{host}:{port}/{name}?user={role}&password={encoded}"),
    ]
}

#[test]
fn the_database_password_does_not_leak() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(entry(1));
    let role = database.role(Some(PASSWORD));
    database.exec(&format!("alter role {role} superuser"));
    let (host, port) = database.host_and_port();
    let name = database.name();
    let wrong = format!("{PASSWORD}x");
    let try_all = |what: &str, code: i32, urls: &[String]| {
        for (nth, url) in urls.iter().enumerate() {
            let set = |run: Run| {
                let run = run.env("DATABASE_URL", url);
                run.env("PGPASSWORD", PASSWORD).env("PGPASSFILE", "/canari")
            };
            assert_no_leak_in_both(
                &format!("{what}, format {nth}"),
                &upstream,
                &database,
                code,
                set,
            );
        }
    };
    try_all("right", 0, &url_formats(&role, PASSWORD, &host, port, name));
    try_all("wrong", 1, &url_formats(&role, &wrong, &host, port, name));
    try_all("no such database", 1, &url_formats(&role, PASSWORD, &host, port, "nowhere"));
    try_all("no such host", 2, &url_formats(&role, PASSWORD, "nowhere.invalid", port, name)[..1]);
    try_all("connection refused", 2, &url_formats(&role, PASSWORD, "127.0.0.1", 1, name));
    database.exec(&format!("alter role {role} nosuperuser connection limit 0"));
    try_all("too many connections", 2, &url_formats(&role, PASSWORD, &host, port, name)[..1]);
    database.exec(&format!("alter role {role} nologin"));
    try_all("no login", 1, &url_formats(&role, PASSWORD, &host, port, name)[..1]);

    let malformed = [
        format!("postgres://{role}:{PASSWORD}@{host}:{port}/{name}"),
        format!("postgres://{role}%3Acanari@{host}:{port}/{name}"),
        format!("postgres://{role}:canari%@{host}:{port}/{name}"),
        format!("postgres://{role}:x/canari=1@{host}:{port}/{name}"),
        format!("postgres://{host}:{port}/{name}?canari=1"),
        format!("mysql://{role}:canari@{host}:{port}/{name}"),
        format!("host={host} user={role} password=canari"),
        "canari".to_owned(),
    ];
    try_all("malformed", 1, &malformed);
}

#[test]
fn settings_and_their_files_do_not_leak() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let files = [
        ("empty", write("empty", b"\n")),
        ("not UTF-8", write("latin", b"canari\xe9")),
        ("too long", write("long", "canari".repeat(20_000).as_bytes())),
        ("two lines", write("lines", b"canari\ncanari\ncanari\0")),
        ("a folder", folder.path().to_str().unwrap().to_owned()),
        ("the secret itself", "canari-secret".to_owned()),
    ];
    let run = Run::cycle(&upstream, &database);
    let assert_no_leak =
        |name: &str, code: i32, run: &Run| assert_no_leak(name, &database, code, run, "text");
    for variable in ["DATAPASS_CLIENT_SECRET", "DATABASE_URL"] {
        for (what, path) in &files {
            let run = run.clone().env_remove(variable);
            let run = run.env(format!("{variable}_FILE"), path);
            assert_no_leak(&format!("{variable}_FILE, {what}"), 1, &run);
        }
        let both = run.clone().env(format!("{variable}_FILE"), "/canari");
        assert_no_leak(&format!("both of {variable}"), 1, &both);
    }
    for (nth, line) in [
        "DATABASE_URL=\"postgres://u:canari@h/db",
        "DATABASE_URL='postgres://u:canari@h/db",
        "DATABASE URL=canari",
        "DATAPASS_CLIENT_SECRET canari",
        "canari",
        "export canari",
        "DATAPASS_CLIENT_SECRET=\"canari\\q\"",
        "DATAPASS_CLIENT_SECRET=canari canari",
        "DATAPASS_CLIENT_SECRET=${canari}\\",
    ]
    .iter()
    .enumerate()
    {
        let path = write("env", format!("A=1\n{line}\nB=2\n").as_bytes());
        let run = run.clone().args(["--env-file", &path]);
        assert_no_leak(&format!("line {nth} of an env file"), 1, &run);
    }
    for (name, value) in [
        ("DATAPASS_AUTH_URL", "https://u:canari@nowhere.invalid/token"),
        ("DATAPASS_AUTH_URL", "https://nowhere.invalid:canari/token"),
        ("DATAPASS_AUTH_URL", "http://nowhere.invalid/token?secret=canari"),
        ("DATAPASS_API_BASE_URL", "canari"),
        ("DATAPASS_CA_FILE", &files[1].1),
        ("SENTRY_DSN", "https://canari@/x"),
        ("DATAPASS_PAGE_SIZE", "canari"),
        ("DATAPASS_TIMEOUT", "canari"),
        ("DATAPASS_CLIENT_SECRT", "canari"),
    ] {
        let code = if name.ends_with("SECRT") { 0 } else { 1 };
        assert_no_leak(&format!("{name}={value}"), code, &run.clone().env(name, value));
    }
    let in_query = [(0, upstream.auth_url()), (2, "http://127.0.0.1:1/token".to_owned())];
    for (code, url) in in_query {
        let url = format!("{url}?client_secret=canari");
        assert_no_leak("a secret in the query", code, &run.clone().env("DATAPASS_AUTH_URL", url));
    }
}

#[test]
fn the_command_line_does_not_leak() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let assert_no_leak = |args: &[&str], code: i32| {
        let run = Run::new(args.to_vec()).upstream(&upstream).database(&database);
        assert_no_leak(&format!("{args:?}"), &database, code, &run, "text");
    };
    for args in [
        &["pull", "DATABASE_URL=postgres://u:canari@h/db"][..],
        &["postgres://u:canari@h/db"],
        &["host=h user=u password=canari"],
        &["DATAPASS_CLIENT_SECRET=canari"],
        &["--client-secret=canari"],
        &["--since", "canari"],
        &["schedule", "password=canari"],
    ] {
        assert_no_leak(args, 1);
    }
    for args in [
        &["schedule", "crontab"][..],
        &["schedule", "kubernetes", "--image", "registry.example/pull:1"],
        &["schedule", "systemd"],
        &["status"],
        &["rejected", "list"],
        &["migrate"],
        &["--help"],
    ] {
        assert_no_leak(args, 0);
    }
}

#[test]
fn the_process_data_that_other_users_can_read_does_not_leak() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(entry(1));
    let gate = upstream.gate(On::page(1));
    let role = database.role(Some(PASSWORD));
    database.exec(&format!("alter role {role} superuser"));
    let (host, port) = database.host_and_port();
    let [url, ..] = url_formats(&role, PASSWORD, &host, port, database.name());
    let running = Run::cycle(&upstream, &database).env("DATABASE_URL", url).any_stderr().spawn();
    gate.reached();
    let process = Path::new("/proc").join(running.pid().to_string());
    for name in ["cmdline", "comm", "status", "maps"] {
        let seen = String::from_utf8_lossy(&fs::read(process.join(name)).unwrap()).into_owned();
        assert_clean("a cycle under way", name, &seen);
    }
    let query = "select application_name || query || coalesce(usename, '') from pg_stat_activity
                 where datname = current_database() and pid <> pg_backend_pid()";
    for row in database.client().query(query, &[]).unwrap() {
        assert_clean("a cycle under way", "pg_stat_activity", row.get(0));
    }
    gate.open();
    running.wait().success();
}
