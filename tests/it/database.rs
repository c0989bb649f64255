//! The database as it is in production: behind a pooler, read-only, briefly unavailable.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::*;

/// Describes a cycle that enqueues nothing, so that it does not log that `good_jobs` is missing.
fn cycle(upstream: &DataPass, database: &Database) -> Run {
    Run::cycle(upstream, database).env("DATAPASS_ENQUEUE", "none")
}

/// Ends cycles that wait for a lock with a signal, directly or through a pooler in a mode, and
/// expects each backend to be freed soon.
fn end_in_lock_waits(pool_mode: Option<&str>, rounds: usize) {
    // A second for `client_connection_check_interval`, and time for pooler and server.
    const LIMIT: Duration = Duration::from_secs(3);
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    let mut client = database.client();
    let pooler = pool_mode.map(|mode| PgBouncer::with(&database, &format!("pool_mode = {mode}")));
    let url = pooler.as_ref().map_or(database.url(), PgBouncer::url);
    let cycle = || cycle(&upstream, &database).env("DATABASE_URL", &url);
    for signal in ["TERM", "HUP", "INT"].into_iter().cycle().take(rounds) {
        let mut holder = client.transaction().unwrap();
        holder.batch_execute("lock table proactivite_requests in access exclusive mode").unwrap();
        let running = cycle().any_stderr().spawn();
        let waits = "wait_event_type = 'Lock'";
        database.await_session(waits);
        let (begun, machine) = (Instant::now(), SchedulingDelay::watch());
        running.signal(signal);
        database.await_no_session(waits);
        let (took, late) = (begun.elapsed(), machine.total());
        assert!(took < LIMIT + late, "{pool_mode:?}: freed after {took:?}");
        running.wait_after_signal().transient("interrupted");
    }
    assert_eq!(database.count("proactivite_requests"), 0);
    // The pooler still works.
    assert_eq!(cycle().output().success().created, 1);
}

#[test]
fn a_signal_during_a_lock_wait_frees_the_backend() {
    thread::scope(|scope| {
        scope.spawn(|| end_in_lock_waits(None, 3));
        scope.spawn(|| end_in_lock_waits(Some("transaction"), 6));
        scope.spawn(|| end_in_lock_waits(Some("session"), 3));
    });
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    let gate = upstream.gate(On::page(1));
    // As `nohup` does
    let running = cycle(&upstream, &database)
        .through(["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .spawn();
    gate.reached();
    running.signal("HUP");
    gate.open();
    assert_eq!(running.wait().success().created, 1);
}

#[test]
fn no_database_connection_is_open_during_http_requests() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    for on in [On::token(1), On::page(1)] {
        let gate = upstream.gate(on);
        let running = cycle(&upstream, &database).spawn();
        gate.reached();
        database.await_no_session("true");
        gate.open();
        running.wait().success();
        upstream.clear_rules();
    }
}

#[test]
fn a_standby_is_transient_and_detected_before_the_first_request() {
    let cluster = Cluster::disposable();
    let (upstream, database) = (DataPass::start(), cluster.migrated());
    upstream.add(Demande::cnous(1));
    let run = |args: &[&str]| {
        Run::new(args.iter().copied())
            .upstream(&upstream)
            .database(&database)
            .env("DATAPASS_ENQUEUE", "none")
            .env("DATAPASS_MAX_RETRIES", "0")
    };
    cluster.restart_as_standby();
    let standby =
        format!("PostgreSQL at 127.0.0.1:{} accepts no changes: it is a standby", cluster.port());
    let outcome = run(&["pull"]).output();
    outcome.transient("database_unavailable");
    assert!(outcome.stderr.contains(&standby), "{}", outcome.stderr);
    assert!(upstream.requests().is_empty());
    for args in [
        &["migrate"][..],
        &["watermark", "reset", "--yes"],
        &["watermark", "set", "2026-05-18", "--yes"],
        &["rejected", "accept", "D1", "--reason", "seen"],
    ] {
        let outcome = run(args).output();
        outcome.assert_code(2);
        assert!(outcome.stderr.contains(&standby), "{}", outcome.stderr);
    }
    let outcome = run(&["check"]).output();
    assert_eq!(outcome.code(), 2, "{}", outcome.stdout);
    assert!(outcome.stdout.contains(&standby), "{}", outcome.stdout);
    for args in [&["status"][..], &["rejected", "list"], &["pull", "--dry-run"]] {
        let outcome = run(args).any_stderr().output();
        assert_eq!(outcome.code(), 0, "{args:?}: {}", outcome.stderr);
    }

    // A failover during an HTTP request
    cluster.restart_as_primary();
    let gate = upstream.gate(On::page(1));
    let running = run(&["pull"]).spawn();
    gate.reached();
    cluster.restart_as_standby();
    gate.open();
    let outcome = running.wait();
    outcome.transient("database_unavailable");
    assert!(outcome.stderr.contains(&standby), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("stage=create"), "{}", outcome.stderr);

    cluster.restart_as_primary();
    upstream.clear_rules();
    assert_eq!(run(&["pull"]).output().success().created, 1);
}

#[test]
fn a_read_only_database_is_transient() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    let set = |value: &str| {
        let name = database.name();
        database.exec(&format!(
            "begin read write;
             alter database {name} set default_transaction_read_only = {value};
             commit"
        ));
    };
    let named = |outcome: &Outcome| {
        let text = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(text.contains("default_transaction_read_only"), "{text}");
    };
    set("on");
    let outcome = cycle(&upstream, &database).output();
    outcome.transient("database_unavailable");
    named(&outcome);
    assert!(upstream.requests().is_empty());
    let outcome = Run::new(["check"]).upstream(&upstream).database(&database).output();
    assert_eq!(outcome.code(), 2);
    named(&outcome);
    Run::new(["status"]).database(&database).output().assert_success();

    // Set during an HTTP request
    set("off");
    let gate = upstream.gate(On::page(1));
    let running = cycle(&upstream, &database).spawn();
    gate.reached();
    set("on");
    gate.open();
    let outcome = running.wait();
    outcome.transient("database_unavailable");
    named(&outcome);
    assert_eq!(database.count("proactivite_requests"), 0);
}

#[test]
fn a_failed_connection_is_retried() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    let proxy = Proxy::start(&database);
    let cycle = || cycle(&upstream, &database).env("DATABASE_URL", proxy.url(&database));
    let (host, port) = proxy.host_and_port();

    // Only the first connection fails.
    let hold = proxy.hold(Place::Before(0));
    let running = cycle()
        .stderr(format!("Cannot connect to PostgreSQL at {host}:{port}: "))
        .stderr("retrying in ")
        .spawn();
    hold.reached().cut();
    assert_eq!(running.wait().success().created, 1);

    proxy.reset();
    let hold = proxy.hold(Place::Before(0));
    let running = cycle().args(["--max-retries", "0"]).spawn();
    hold.reached().cut();
    running.wait().transient("database_unavailable");

    // A signal ends the wait for a retry, and there is no retry after the deadline.
    proxy.reset();
    let hold = proxy.hold(Place::Before(0));
    let running = cycle().any_stderr().spawn();
    hold.reached().cut();
    running.signal("TERM");
    running.wait_after_signal().transient("interrupted");
    proxy.reset();
    let hold = proxy.hold(Place::Before(0));
    let running = cycle().args(["--timeout", "1s"]).spawn();
    hold.reached().cut();
    running.wait().transient("database_unavailable");

    // `check` does not retry, since an operator waits for it.
    proxy.reset();
    let hold = proxy.hold(Place::Before(0));
    let running =
        Run::new(["check"]).upstream(&upstream).env("DATABASE_URL", proxy.url(&database)).spawn();
    hold.reached().cut();
    assert_eq!(running.wait().code(), 2);
    assert_eq!(proxy.reset(), ["connect"]);
}

#[test]
fn a_run_that_blocks_on_a_full_pipe_ends_at_the_deadline() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1).siret("1"));
    let folder = tempfile::tempdir().unwrap();
    for (nth, output) in [">&3", "2>&3"].into_iter().enumerate() {
        let pipe = folder.path().join(nth.to_string());
        let full = format!(
            "mkfifo \"$0\" && exec 3<>\"$0\" && head -c 65536 /dev/zero >&3 && exec \"$@\" {output}"
        );
        let running = cycle(&upstream, &database)
            .args(["--timeout", "1s"])
            .through(["sh", "-c", &full, pipe.to_str().unwrap()])
            .any_stderr()
            .spawn();
        // The deadline, and time for the reports
        let outcome = running.wait_within(Duration::from_secs(8));
        assert_eq!(outcome.code(), 2, "{output}");
    }
}

#[test]
fn a_login_that_pgbouncer_refuses_is_permanent() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, "\"me\" \"right\"\n").unwrap();
    for path in [folder.path(), &users] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let settings = |auth: &str| format!("auth_type = {auth}\nauth_file = {}", users.display());
    let url = |pooler: &PgBouncer, login: &str, rest: &str| {
        format!("postgres://{login}@127.0.0.1:{}/{rest}", pooler.port())
    };
    let run = |url: &str| {
        Run::cycle(&upstream, &database)
            .env("DATABASE_URL", url)
            .env("DATAPASS_ENQUEUE", "none")
            .output()
    };
    let name = database.name();
    let mut poolers = Vec::new();
    for auth in ["plain", "scram-sha-256"] {
        poolers.push(PgBouncer::with(&database, &settings(auth)));
    }
    for pooler in &poolers {
        run(&url(pooler, "me:right", name)).success();
        for (login, rest) in [
            ("me:canari", name),
            ("canari:right", name),
            ("me:right", "canari"),
            ("me:right", "pgbouncer"),
        ] {
            let outcome = run(&url(pooler, login, rest));
            outcome.permanent("database_login");
            let refusal = "PgBouncer refuses user, password or database (";
            assert!(outcome.stderr.contains(refusal), "{}", outcome.stderr);
        }
        let options = format!("{name}?options=-c%20search_path%3Dcanari");
        let outcome = run(&url(pooler, "me:right", &options));
        outcome.permanent("configuration");
        assert!(outcome.stderr.contains("ignore_startup_parameters"), "{}", outcome.stderr);
    }
    let pooler = PgBouncer::with(&database, "pool_mode = statement");
    let outcome = run(&pooler.url());
    outcome.permanent("database_refused");
    assert!(outcome.stderr.contains("pool_mode"), "{}", outcome.stderr);
    // An unavailable server behind the pooler is transient.
    let cluster = Cluster::disposable();
    let pooler = PgBouncer::with(&cluster.migrated(), "query_wait_timeout = 1");
    cluster.stop("immediate");
    let outcome = Run::new(["status"]).env("DATABASE_URL", pooler.url()).output();
    outcome.assert_code(2);
    assert!(outcome.stderr.contains("08P01"), "{}", outcome.stderr);
}

/// Serves clients as PgBouncer does in statement mode: it refuses to begin a transaction, and ends
/// the connection. The first client cannot read the message.
fn statement_pooler() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let read = |stream: &mut TcpStream| -> Option<Vec<u8>> {
        let mut length = [0; 4];
        stream.read_exact(&mut length).ok()?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        stream.read_exact(&mut body).ok()?;
        Some(body)
    };
    let serve = move |mut stream: TcpStream, is_first: bool| -> Option<()> {
        // SSLRequest is declined; then the startup message is answered.
        if read(&mut stream)?.starts_with(&80_877_103_u32.to_be_bytes()) {
            stream.write_all(b"N").ok()?;
            read(&mut stream)?;
        }
        stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").ok()?;
        loop {
            stream.read_exact(&mut [0]).ok()?;
            if read(&mut stream)?.starts_with(b"select 1") {
                stream.write_all(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I").ok()?;
                continue;
            }
            if !is_first {
                let fields =
                    b"SFATAL\0C08P01\0Mtransaction blocks not allowed in statement pooling \
                               mode\0\0";
                let length = u32::try_from(fields.len() + 4).unwrap();
                stream.write_all(&[b"E", &length.to_be_bytes()[..], fields].concat()).ok()?;
                // So that the client reads it before the end.
                thread::sleep(Duration::from_millis(500));
            }
            return None;
        }
    };
    thread::spawn(move || {
        for (nth, stream) in listener.incoming().enumerate() {
            serve(stream.unwrap(), nth == 0);
        }
    });
    address
}

#[test]
fn statement_pooling_is_permanent_whether_its_message_is_read_or_not() {
    let url = format!("postgres://pull@{}/pull", statement_pooler());
    let outcome = Run::new(["status"]).env("DATABASE_URL", url).any_stderr().output();
    outcome.assert_code(1);
    assert!(outcome.stderr.contains("pool_mode"), "{}", outcome.stderr);
}

#[test]
fn a_refused_insert_is_reported_with_type_table_column_or_constraint() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    for (change, undo, expected) in [
        (
            "alter table proactivite_requests alter siret type varchar(9) using ''",
            "alter table proactivite_requests alter siret type text",
            "character varying(9), table proactivite_requests",
        ),
        (
            "alter table proactivite_requests add constraint odd check (siret = '')",
            "alter table proactivite_requests drop constraint odd",
            "table proactivite_requests, constraint odd",
        ),
        (
            "alter table proactivite_requests add extra text not null",
            "alter table proactivite_requests drop extra",
            "table proactivite_requests, column extra",
        ),
        (
            "insert into proactivite_requests (id, datapass_authorization_id) values (1, 'x');
             alter sequence proactivite_requests_id_seq restart with 1",
            "select setval('proactivite_requests_id_seq', 1)",
            "setval(pg_get_serial_sequence('proactivite_requests', 'id')",
        ),
    ] {
        database.exec(change);
        let outcome = cycle(&upstream, &database).output();
        outcome.permanent("database_refused");
        assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
        database.exec(undo);
    }
    assert_eq!(cycle(&upstream, &database).output().success().created, 1);
}

#[test]
fn a_commit_without_a_response_is_verified_on_a_new_connection() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    let proxy = Proxy::start(&database);
    let cycle = || cycle(&upstream, &database).env("DATABASE_URL", proxy.url(&database));
    let clear = || {
        proxy.reset();
        database.exec(
            "truncate proactivite_requests, datapass_pull_handled, datapass_pull_runs;
             update datapass_pull_watermarks set last_validated_at = null",
        );
    };
    cycle().output().success();
    let last = proxy.reset().iter().rposition(|text| text == "COMMIT");
    let last = last.unwrap();

    clear();
    let hold = proxy.hold(Place::After(last));
    let running = cycle().stderr("No response to COMMIT, but everything is written").spawn();
    hold.reached().cut();
    let summary = running.wait().success();
    assert_eq!((summary.created, summary.existing), (1, 0));
    let runs = database.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!((&runs[0]["outcome"], &runs[0]["created"]), (&"success".into(), &1.into()));

    clear();
    let hold = proxy.hold(Place::Before(last));
    let running = cycle().spawn();
    hold.reached().cut();
    let outcome = running.wait();
    outcome.transient("database_unavailable");
    let (host, port) = proxy.host_and_port();
    let place = format!("(PostgreSQL at {host}:{port})");
    assert!(outcome.stderr.contains(&place), "{}", outcome.stderr);
    let runs = database.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!((&runs[0]["outcome"], &runs[0]["created"]), (&"transient".into(), &0.into()));
    assert_eq!(database.count("proactivite_requests"), 0);
}

#[test]
fn a_required_column_that_the_cycle_does_not_fill_is_permanent() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 1));
    database.exec("alter table proactivite_requests add column owner text not null");
    let before = database.snapshot();
    let outcome = Run::cycle(&upstream, &database).any_stderr().output();
    outcome.permanent("database_refused");
    assert_eq!(database.snapshot(), before);
    let runs = database.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0]["outcome"], "permanent");
    assert_eq!(runs[0]["reason"], "database_refused");
    assert_eq!((&runs[0]["seen"], &runs[0]["pages"]), (&json!(1), &json!(1)));
}

#[test]
fn runs_older_than_400_days_are_pruned() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 1));
    database.exec(
        "insert into datapass_pull_runs (outcome, started_at)
         values ('success', now() - interval '401 days'),
                ('success', now() - interval '399 days')",
    );
    Run::cycle(&upstream, &database).any_stderr().output().success();
    assert_eq!(database.count("datapass_pull_runs"), 2);
}

/// A cycle that is suspended between two statements, for instance by a sleeping machine, must not
/// lock the watermark until its deadline.
#[test]
fn a_transaction_is_idle_for_a_minute_at_most() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(
        "create table noted (setting text);
         create function note() returns trigger language plpgsql as $$ begin
             insert into noted values (current_setting('idle_in_transaction_session_timeout'));
             return new;
         end $$;
         create trigger note before insert on datapass_pull_runs
             for each row execute function note()",
    );
    for (timeout, seconds) in [("6h", 60.0..=60.0), ("50s", 1.0..=50.0)] {
        let run = Run::cycle(&upstream, &database).args(["--timeout", timeout]);
        run.output().success();
        let taken = "delete from noted returning extract(epoch from setting::interval)::float8";
        let noted: f64 = database.client().query_one(taken, &[]).unwrap().get(0);
        assert!(seconds.contains(&noted), "{timeout}: {noted} s");
    }
}
