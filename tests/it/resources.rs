//! A machine that gives no more threads, or takes no more output.

use crate::harness::*;

/// The stack that every thread asks for: far more than all the rest of the program, so that a limit
/// of the address space counts threads alone.
const STACK_KIB: u64 = 512 << 10;

/// Lets a run have so many threads at once beside its first one.
fn with_threads(run: Run, count: u64) -> Run {
    let limit_kib = count * STACK_KIB + STACK_KIB / 2;
    let limit = format!("ulimit -v {limit_kib} && exec \"$0\" \"$@\"");
    run.through(["sh", "-c", &limit])
        .env("RUST_MIN_STACK", (STACK_KIB << 10).to_string())
        // Each arena of the C library's `malloc` would take address space too.
        .env("MALLOC_ARENA_MAX", "1")
}

#[test]
fn a_thread_that_cannot_start_is_a_transient_failure_wherever_it_is() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    let run = || Run::cycle(&upstream, &database).args(["--enqueue", "none"]);
    // For signals, the program, the run, HTTP, the connections, pages.
    for count in 0..6 {
        let outcome = with_threads(run(), count).any_stderr().output();
        outcome.transient("resources");
        let text = outcome.stderr.lines().last().unwrap();
        assert!(text.contains("limits"), "{count}: {text}");
    }
    let (code, screen) = with_threads(run(), 0).env("TERM", "xterm").on_terminal().end();
    assert_eq!(code, 2, "{screen}");
    assert!(screen.contains("reason=resources"), "{screen}");
    assert_eq!(database.count("proactivite_requests"), 0);
    // Threads that fetched pages may not have ended yet.
    assert_eq!(with_threads(run(), 8).output().success().created, 1);
}

#[test]
fn an_answer_that_cannot_be_written_is_no_success() {
    let sh = |script: &str, run: Run| run.through(["sh", "-c", script]);
    let full = |run: Run| sh("exec \"$0\" \"$@\" > /dev/full", run);
    // The reader is gone when `cat` cannot write any more.
    let unread = "{ cat /dev/zero 2> /dev/null; \"$0\" \"$@\"; echo status $? >&2; } | true";
    let commands: [&[&str]; 3] =
        [&["migrate", "--print"], &["schedule", "crontab"], &["completions", "zsh"]];
    for command in commands {
        let run = || Run::new(command.to_vec());
        let outcome = full(run()).output();
        outcome.assert_code(2);
        assert!(outcome.stderr.contains("reason=resources"), "{command:?}");
        // Who does not read has what it wants.
        sh(unread, run()).stderr("status 0").output().assert_code(0);
        sh("exec \"$0\" \"$@\" >&-", run()).output().assert_code(0);
    }
    // What a cycle did is done, and its status is the cycle's.
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let run = || full(Run::cycle(&upstream, &database));
    run().stderr("Cannot write the summary line").output().assert_success();
    upstream.fault(On::tokens(..), Fault::Status(403, &[]));
    let outcome = run().output();
    outcome.assert_code(1);
    assert!(outcome.stderr.contains("reason=token_refused"));
}

#[test]
fn too_few_file_descriptors_are_a_transient_failure_wherever_it_is() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    let (_, port) = database.host_and_port();
    // A name is looked up, which needs files too.
    let named = format!("postgres://postgres@localhost:{port}/{}", database.name());
    for url in [database.url(), named] {
        let run = |count: u64| {
            let limit = format!("ulimit -n {count} && exec \"$0\" \"$@\"");
            Run::cycle(&upstream, &database)
                .args(["--enqueue", "none", "--max-retries", "0"])
                .env("DATABASE_URL", &url)
                .through(["sh", "-c", &limit])
        };
        // For signals, HTTP, the connections.
        let enough = (4..32).find(|count| {
            let outcome = run(*count).output();
            if outcome.code() != 0 {
                outcome.transient("resources");
                assert!(!outcome.stderr.contains("panic"), "{}", outcome.stderr);
            }
            outcome.code() == 0
        });
        assert!(enough > Some(10), "{enough:?}");
    }
}
