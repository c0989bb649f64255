//! What may go wrong × where: a cycle is hit at every request and at every statement, and each time
//! the tables are as before or as after, and a plain next run makes them right.

// What was covered is printed.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use ::postgres::Client;
use chrono::{DateTime, TimeDelta, Utc};

use crate::harness::*;

/// What a cycle leaves: demandes with a row, in order; jobs; rejections; the watermark.
type State = (Vec<i64>, i64, i64, Option<DateTime<Utc>>);

/// How each cell ended: by action and place.
type Covered = BTreeMap<(String, String), String>;

/// An action on a request: its name, what the upstream does, and how the run may end.
type RequestFault = (&'static str, Fault, &'static [(i32, &'static str)]);

const ROWS: i64 = 25;

/// How many cells run at once. A cell mostly waits: for deadlines, ends of connections, signals.
const WORKERS: usize = 6;

fn fill(upstream: &DataPass, rows: i64) {
    for id in 1..=rows {
        let demande =
            Demande::cnous(id).validated(at("2026-05-18T10:00:00Z") + TimeDelta::minutes(id));
        // The last one is rejected, and holds the watermark.
        upstream.add(if id == rows { demande.siret("1") } else { demande });
    }
}

fn clear(client: &mut Client) {
    client
        .batch_execute(
            "truncate proactivite_requests, good_jobs, datapass_pull_rejections, datapass_pull_runs,
                 datapass_pull_handled;
             update datapass_pull_watermarks set last_validated_at = null, definition_id = null",
        )
        .unwrap();
}

fn state(client: &mut Client) -> State {
    let sql = "select array(select datapass_demande_id from proactivite_requests order by id),
                      (select count(*) from good_jobs),
                      (select count(*) from datapass_pull_rejections),
                      (select last_validated_at from datapass_pull_watermarks)";
    let row = client.query_one(sql, &[]).unwrap();
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

/// Waits until every other session of the database has ended.
fn await_others_end(client: &mut Client) {
    let sql = "select count(*) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()";
    eventually("no other session", || client.query_one(sql, &[]).unwrap().get::<_, i64>(0) == 0);
}

/// What the cells of one worker share: an upstream, a database, and what a clean cycle leaves. The
/// tables are empty between two cells.
struct Bench {
    upstream: DataPass,
    database: Database,
    proxy: Proxy,
    before: State,
    after: State,
    covered: Covered,
}

impl Bench {
    fn new(database: Database) -> Self {
        let upstream = DataPass::start();
        fill(&upstream, ROWS);
        database.exec(GOOD_JOBS_3_99);
        let proxy = Proxy::start(&database);
        let mut client = database.client();
        let before = state(&mut client);
        let mut bench = Self {
            upstream,
            database,
            proxy,
            after: before.clone(),
            before,
            covered: Covered::new(),
        };
        bench.run().output().success();
        bench.after = state(&mut client);
        assert_eq!((bench.after.0.len(), bench.after.1, bench.after.2), (24, 24, 1));
        clear(&mut client);
        bench
    }

    fn run(&self) -> Run {
        Run::cycle(&self.upstream, &self.database)
            .env("DATABASE_URL", self.proxy.url(&self.database))
            .args(["--page-size", "10", "--concurrency", "1", "--max-retries", "0"])
            .any_stderr()
    }

    /// Runs a clean cycle; returns how long it took, its requests, and its exchanges with PostgreSQL:
    /// `connect`, then the text of each statement.
    fn clean_run(&self) -> (Duration, Vec<Endpoint>, Vec<String>) {
        self.begin();
        let start = Instant::now();
        self.run().output().success();
        let duration = start.elapsed();
        clear(&mut self.database.client());
        let requests = self.upstream.take_requests();
        let requests = requests.iter().map(|request| request.endpoint).collect();
        (duration, requests, self.proxy.reset())
    }

    /// Begins a cell.
    fn begin(&self) {
        self.upstream.clear_rules();
        self.upstream.take_requests();
        self.proxy.reset();
    }

    /// Ends a cell: all or nothing, and the next run repairs.
    fn end(&mut self, action: &str, place: &str, how: &str) -> bool {
        let mut client = self.database.client();
        await_others_end(&mut client);
        let found = state(&mut client);
        let runs = "select count(*) - count(distinct run_id) from datapass_pull_runs";
        let doubled: i64 = client.query_one(runs, &[]).unwrap().get(0);
        assert_eq!(doubled, 0, "{action} at {place}: a run with two rows");
        assert!(
            found == self.before || found == self.after,
            "{action} at {place}: neither before nor after: {found:?}"
        );
        self.upstream.clear_rules();
        self.proxy.reset();
        self.run().output().success();
        assert_eq!(state(&mut client), self.after, "{action} at {place}: repaired");
        clear(&mut client);
        let written = found == self.after;
        let words = if written { "all" } else { "nothing" };
        let cell = (action.to_owned(), place.to_owned());
        self.covered.insert(cell, format!("{how}, {words} written"));
        written
    }

    /// Ends a cell whose run reported its end.
    fn check(&mut self, action: &str, place: &str, outcome: &Outcome, allowed: &[(i32, &str)]) {
        outcome.assert_no_canary();
        let word = outcome.stdout.split(' ').find_map(|word| word.strip_prefix("reason="));
        let how = (outcome.code(), word.unwrap_or("success"));
        assert!(allowed.contains(&how), "{action} at {place}: {how:?} {}", outcome.stderr);
        let written = self.end(action, place, &format!("{} {}", how.0, how.1));
        assert!(written || how.0 != 0, "{action} at {place}: a success that wrote nothing");
        // Whether a COMMIT took effect is looked up when its answer did not come.
        let committed = place.starts_with("After") && place.ends_with(" COMMIT");
        let looked_up = !["kill", "server stopped"].contains(&action);
        assert!(
            !(written && committed && looked_up) || how.0 == 0,
            "{action} at {place}: a success that is not reported"
        );
    }
}

/// Where cycles are hit; each action there is a cell.
#[derive(Clone)]
enum Target {
    /// At the request of this number, from 1.
    Request(u64, Endpoint),
    /// At a statement, of this text; `true` for the last one.
    Statement(Place, String, bool),
    /// At a statement, whose answer never comes.
    Deadline(Place),
}

impl Target {
    fn hit(self, bench: &mut Bench) {
        match self {
            Self::Request(number, endpoint) => at_request(bench, number, endpoint),
            Self::Statement(place, text, is_last) => at_statement(bench, place, &text, is_last),
            Self::Deadline(place) => at_deadline(bench, place),
        }
    }

    /// Returns how many cells it has.
    fn cells(&self) -> usize {
        match self {
            Self::Request(..) => 10,
            Self::Statement(Place::Before(_), text, _) if is_refusable(text) => 7,
            Self::Statement(..) => 4,
            Self::Deadline(_) => 1,
        }
    }
}

/// Returns whether PostgreSQL may answer a statement with an error of its own.
fn is_refusable(text: &str) -> bool {
    !["connect", "COMMIT"].contains(&text)
}

fn at_statement(bench: &mut Bench, place: Place, text: &str, is_last: bool) {
    let shown: String = text.chars().take(36).collect();
    let named = format!("{place:?} {shown}");
    for action in ["kill", "term", "cut", "terminate"] {
        bench.begin();
        let hold = bench.proxy.hold(place);
        let running = bench.run().spawn();
        let held = hold.reached();
        match action {
            "kill" => {
                running.kill();
                held.go_on();
                bench.end(action, &named, "killed");
                continue;
            }
            "term" => {
                running.signal("TERM");
                let outcome = running.wait_after_signal();
                held.go_on();
                let allowed = match (place, is_last) {
                    (Place::After(_), true) => (0, "success"),
                    _ => (2, "interrupted"),
                };
                bench.check(action, &named, &outcome, &[allowed]);
                continue;
            }
            "cut" => held.cut(),
            _ => {
                bench.database.terminate_others();
                held.go_on();
            }
        }
        // Between the transactions no connection is needed, and the run succeeds.
        let allowed = [(2, "database_unavailable"), (0, "success")];
        bench.check(action, &named, &running.wait(), &allowed);
    }
    if matches!(place, Place::After(_)) || !is_refusable(text) {
        return;
    }
    for (code, allowed) in [
        ("40001", [(0, "success")]),
        ("53100", [(2, "database_busy")]),
        ("42501", [(1, "database_refused")]),
    ] {
        bench.begin();
        let hold = bench.proxy.hold(place);
        let running = bench.run().spawn();
        hold.reached().refuse(code, "refused by the test");
        bench.check(code, &named, &running.wait(), &allowed);
    }
}

fn at_request(bench: &mut Bench, number: u64, endpoint: Endpoint) {
    let named = format!("request {number} {endpoint:?}");
    for action in ["kill", "term"] {
        bench.begin();
        let gate = bench.upstream.gate(On::request(number));
        let running = bench.run().spawn();
        gate.reached();
        if action == "kill" {
            running.kill();
            gate.open();
            assert!(!bench.end(action, &named, "killed"), "{named}: nothing is written");
            continue;
        }
        running.signal("TERM");
        let outcome = running.wait_after_signal();
        gate.open();
        bench.check(action, &named, &outcome, &[(2, "interrupted")]);
    }
    let faults: [RequestFault; 7] = [
        ("cut", Fault::CloseBeforeResponse, &[(2, "connection")]),
        ("cut body", Fault::TruncateBody(20), &[(2, "bad_body")]),
        ("nonsense", Fault::NotHttp(b"canari\r\n\r\n".to_vec()), &[(2, "connection")]),
        ("html", Fault::html(), &[(2, "bad_body")]),
        ("bomb", Fault::DecompressionBomb(200), &[(1, "too_large")]),
        ("500", Fault::Status(500, &[]), &[(2, "server_error")]),
        ("404", Fault::Status(404, &[]), &[(1, "request_refused"), (1, "token_refused")]),
    ];
    for (action, fault, allowed) in faults {
        bench.begin();
        bench.upstream.fault(On::request(number), fault);
        let outcome = bench.run().output();
        bench.check(action, &named, &outcome, allowed);
    }
    bench.begin();
    bench.upstream.before(On::request(number), |upstream| upstream.expire_tokens());
    let outcome = bench.run().output();
    bench.check("token expires", &named, &outcome, &[(0, "success")]);
}

/// No answer comes any more: the deadline ends the run, whatever it waits for.
fn at_deadline(bench: &mut Bench, place: Place) {
    // Time enough to come to the place, however busy the machine is.
    let (duration, ..) = bench.clean_run();
    let mut timeout = 2 + (duration * 4).as_secs();
    if place == Place::Before(0) {
        // A connection, the first thing that a cycle needs, has a limit of ten seconds of its own.
        timeout = timeout.min(9);
    }
    // Its grace and the run row, a second and a half, with room.
    let limit = Duration::from_secs(timeout + 3);
    bench.begin();
    let hold = bench.proxy.hold(place);
    let running = bench.run().args(["--timeout", &format!("{timeout}s")]).spawn();
    let held = hold.reached();
    let outcome = running.wait_within(limit);
    held.cut();
    let allowed = match place {
        Place::After(_) => (0, "success"),
        Place::Before(_) => (2, "deadline"),
    };
    bench.check("deadline", &format!("{place:?}"), &outcome, &[allowed]);
}

/// The server stops in the middle of a cycle, as after a loss of power.
fn at_stops(statements: &[String]) -> Covered {
    let cluster = Cluster::disposable();
    let mut bench = Bench::new(cluster.migrated());
    let last = statements.len() - 1;
    let row =
        statements.iter().position(|text| text.starts_with("insert into proactivite_requests"));
    for place in
        [Place::Before(0), Place::After(row.unwrap()), Place::Before(last), Place::After(last)]
    {
        bench.begin();
        let hold = bench.proxy.hold(place);
        let running = bench.run().args(["--timeout", "20s"]).spawn();
        let held = hold.reached();
        cluster.stop("immediate");
        held.go_on();
        let outcome = running.wait();
        cluster.start_again();
        let allowed = [(2, "database_unavailable"), (0, "success")];
        bench.check("server stopped", &format!("{place:?}"), &outcome, &allowed);
    }
    bench.covered
}

/// Returns where the cycles of a bench are hit, and the statements of a clean one.
fn targets(bench: &Bench) -> (Vec<Target>, Vec<String>) {
    let (_, requests, statements) = bench.clean_run();
    assert!(requests.len() >= 4, "a token and some pages");
    for expected in
        ["connect", "select", "insert into proactivite_requests", "insert into public.good_jobs"]
    {
        let found = statements.iter().any(|text| text.starts_with(expected));
        assert!(found, "no `{expected}` in {statements:?}");
    }
    let commits = statements.iter().filter(|text| text.as_str() == "COMMIT").count();
    assert!(commits == 2 && statements.len() >= 15, "{statements:?}");

    let last = statements.len() - 1;
    let deadlines =
        [Place::Before(0), Place::Before(last / 2), Place::Before(last), Place::After(last)];
    let mut targets: Vec<Target> = deadlines.map(Target::Deadline).into();
    targets.extend((1..).zip(requests).map(|(nth, endpoint)| Target::Request(nth, endpoint)));
    for (nth, text) in statements.iter().enumerate() {
        for place in [Place::Before(nth), Place::After(nth)] {
            targets.push(Target::Statement(place, text.clone(), nth == last));
        }
    }
    (targets, statements)
}

#[test]
fn every_fault_at_every_place_leaves_all_or_nothing() {
    let (targets, statements) = targets(&Bench::new(Database::migrated()));
    // And one for each stop of the server.
    let cells: usize = targets.iter().map(Target::cells).sum::<usize>() + 4;
    let queue = Mutex::new(targets.into_iter());
    let work = || {
        let mut bench = Bench::new(Database::migrated());
        loop {
            let next = queue.lock().unwrap().next();
            let Some(target) = next else {
                return bench.covered;
            };
            target.hit(&mut bench);
        }
    };
    let mut covered = Covered::new();
    thread::scope(|scope| {
        let mut workers = vec![scope.spawn(|| at_stops(&statements))];
        workers.extend((0..WORKERS).map(|_| scope.spawn(work)));
        for worker in workers {
            covered.extend(worker.join().expect("a cell failed"));
        }
    });
    for ((action, place), how) in &covered {
        println!("{action:<15}{place:<52}{how}");
    }
    println!("{} cells", covered.len());
    assert_eq!(covered.len(), cells);
    assert!(cells > 200, "{cells} cells");
}

#[test]
fn sixty_random_kills_leave_all_or_nothing() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    fill(&upstream, 1501);
    database.exec(GOOD_JOBS_3_99);
    let mut client = database.client();
    let run = || Run::cycle(&upstream, &database).any_stderr();
    let mut duration = || {
        clear(&mut client);
        let begun = Instant::now();
        assert_eq!(run().output().success().created, 1500);
        begun.elapsed()
    };
    let mut durations = [duration(), duration(), duration()];
    durations.sort();
    let usual = durations[1];
    let after = state(&mut client);
    let (mut all, mut nothing) = (0, 0);
    for nth in 0..60 {
        clear(&mut client);
        // Half of them late, where the transaction is.
        let from = if nth % 2 == 0 { 0.0 } else { 0.5 };
        let instant = usual.mul_f64(from + (1.1 - from) * fastrand::f64());
        let running = run().spawn();
        // The instant itself is what is drawn: there is no event to wait for.
        thread::sleep(instant);
        running.kill();
        await_others_end(&mut client);
        match state(&mut client) {
            found if found == after => all += 1,
            (rows, 0, 0, None) if rows.is_empty() => nothing += 1,
            found => panic!("neither all nor nothing: {} rows, {} jobs", found.0.len(), found.1),
        }
    }
    println!("60 kills: {all} left all, {nothing} nothing");
    run().output().success();
    assert_eq!(state(&mut client), after);
}

#[test]
fn an_overtaken_run_does_not_rewind_the_watermark() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let run = || Run::cycle(&upstream, &database).args(["--enqueue", "none"]);
    let minute = |minutes| at("2026-05-18T10:00:00Z") + TimeDelta::minutes(minutes);
    upstream.add(Demande::cnous(1).validated(minute(1)));
    let proxy = Proxy::start(&database);
    let through = || run().env("DATABASE_URL", proxy.url(&database));
    let dry_run = through().args(["--dry-run"]).stderr("Would create D1");
    dry_run.output().success();
    let begun = proxy.reset();
    let second = begun.iter().rposition(|text| text.starts_with("START TRANSACTION"));
    let hold = proxy.hold(Place::Before(second.unwrap()));
    let overtaken = through().spawn();
    let held = hold.reached();
    upstream.add(Demande::cnous(2).validated(minute(90)));
    let faster = run().output().success();
    assert_eq!((faster.created, faster.watermark), (2, Some(minute(90))));
    held.go_on();
    let overtaken = overtaken.wait().success();
    assert_eq!((overtaken.created, overtaken.existing), (0, 1));
    assert_eq!(overtaken.watermark, Some(minute(90)));
    assert_eq!(database.watermark(), Some(minute(90)));
    assert_eq!(database.count("proactivite_requests"), 2);
}

/// A writer that heeds no lock of ours, such as the Rails application: the unique constraint decides,
/// whether that one is done, is yet to commit, or gives up.
#[test]
fn a_row_that_another_writer_inserts_meanwhile_exists_and_gets_no_job() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    database.exec(GOOD_JOBS_3_99);
    fill(&upstream, 4);
    let proxy = Proxy::start(&database);
    let run = || {
        let run = Run::cycle(&upstream, &database).env("DATABASE_URL", proxy.url(&database));
        run.stderr("Rejected D4")
    };
    run().output().success();
    let statements = proxy.reset();
    let insert =
        statements.iter().position(|text| text.starts_with("insert into proactivite_requests"));
    let public_id = &database.requests()[1].datapass_authorization_id;
    let theirs = format!(
        "insert into proactivite_requests (datapass_authorization_id) values ('{public_id}')"
    );
    for (how, created) in [("done", 2), ("commit", 2), ("rollback", 3)] {
        clear(&mut database.client());
        proxy.reset();
        let hold = proxy.hold(Place::Before(insert.unwrap()));
        let running = run().spawn();
        let held = hold.reached();
        let mut other = database.client();
        if how == "done" {
            other.batch_execute(&theirs).unwrap();
            held.go_on();
        } else {
            other.batch_execute(&format!("begin; {theirs}")).unwrap();
            held.go_on();
            database.await_session("wait_event_type = 'Lock'");
            other.batch_execute(how).unwrap();
        }
        let summary = running.wait().success();
        assert_eq!(
            (summary.created, summary.existing, summary.enqueued),
            (created, 3 - created, created),
            "{how}"
        );
        assert_eq!(database.count("proactivite_requests"), 3, "{how}");
        assert_eq!(database.count("good_jobs"), created as i64, "{how}");
    }
}

#[test]
fn a_full_disk_is_transient_and_undoes_everything() {
    let is_real = isolation() == Isolation::Namespaces;
    let cluster = match is_real {
        true => Cluster::with().small("16m").start(),
        false => Cluster::disposable(),
    };
    let (upstream, database) = (DataPass::start(), cluster.migrated());
    fill(&upstream, 200);
    database.exec(GOOD_JOBS_3_99);
    if is_real {
        fill_disk(&database, &cluster.small());
    } else {
        database.refuse_inserts("good_jobs", "53100", 1);
    }
    let mut client = database.client();
    let before = state(&mut client);
    let run = || Run::cycle(&upstream, &database).any_stderr();
    run().output().transient("database_busy");
    assert_eq!(state(&mut client), before);
    match is_real {
        true => database.exec("drop table filler"),
        false => database.allow_inserts("good_jobs"),
    }
    let summary = run().output().success();
    assert_eq!((summary.created, summary.enqueued), (199, 199));
}

/// Puts the jobs on a small file system, and leaves no room there.
fn fill_disk(database: &Database, small: &Path) {
    let mut client = database.client();
    let sql = format!("create tablespace small location '{}'", small.display());
    client.batch_execute(&sql).unwrap();
    client.batch_execute("alter table good_jobs set tablespace small").unwrap();
    client.batch_execute("create table filler (text text) tablespace small").unwrap();
    client.batch_execute("alter table filler alter text set storage plain").unwrap();
    // Ever smaller pieces, until not one more page fits.
    for rows in [1000, 100, 10, 1] {
        let sql =
            format!("insert into filler select repeat('x', 7000) from generate_series(1, {rows})");
        while client.batch_execute(&sql).is_ok() {}
    }
}
