//! Exhausted resources: threads, file descriptors, and an output that cannot be written.

use crate::harness::*;

/// The stack size of each thread: far more than the rest of the program, so that a limit of the
/// address space limits the number of threads.
const STACK_KIB: u64 = 512 << 10;

/// Limits a run to this many threads beside its first one.
fn with_threads(run: Run, count: u64) -> Run {
    let limit_kib = count * STACK_KIB + STACK_KIB / 2;
    let limit = format!("ulimit -v {limit_kib} && exec \"$0\" \"$@\"");
    run.through(["sh", "-c", &limit])
        .env("RUST_MIN_STACK", (STACK_KIB << 10).to_string())
        // Each arena of the C library's `malloc` would use address space too.
        .env("MALLOC_ARENA_MAX", "1")
}

#[test]
fn a_thread_that_cannot_start_is_a_transient_failure_in_each_stage() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    let run = || Run::cycle(&upstream, &database).args(["--enqueue", "none"]);
    // Threads for signals, the program, the run, HTTP, the connections, pages
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
    // Threads that fetched pages may still be running.
    assert_eq!(with_threads(run(), 8).output().success().created, 1);
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure_unless_the_pipe_is_closed() {
    let sh = |script: &str, run: Run| run.through(["sh", "-c", script]);
    let full = |run: Run| sh("exec \"$0\" \"$@\" > /dev/full", run);
    // When `cat` cannot write any more, the reader has closed the pipe.
    let unread = "{ cat /dev/zero 2> /dev/null; \"$0\" \"$@\"; echo status $? >&2; } | true";
    let commands: [&[&str]; 3] =
        [&["migrate", "--print"], &["schedule", "crontab"], &["completions", "zsh"]];
    for command in commands {
        let run = || Run::new(command.to_vec());
        let outcome = full(run()).output();
        outcome.assert_code(2);
        assert!(outcome.stderr.contains("reason=resources"), "{command:?}");
        // A reader that closes the pipe needs no more output.
        sh(unread, run()).stderr("status 0").output().assert_code(0);
        sh("exec \"$0\" \"$@\" >&-", run()).output().assert_code(0);
    }
    // A finished cycle keeps its status.
    let (upstream, database) = (DataPass::start(), Database::migrated());
    let run = || full(Run::cycle(&upstream, &database));
    run().stderr("Cannot write the summary line").output().assert_success();
    upstream.fault(On::tokens(..), Fault::Status(403, &[]));
    let outcome = run().output();
    outcome.assert_code(1);
    assert!(outcome.stderr.contains("reason=token_refused"));
}

#[test]
fn too_few_file_descriptors_are_a_transient_failure_in_each_stage() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(Demande::cnous(1));
    let (_, port) = database.host_and_port();
    // The lookup of a host name needs file descriptors too.
    let named = format!("postgres://postgres@localhost:{port}/{}", database.name());
    for url in [database.url(), named] {
        let run = |count: u64| {
            let limit = format!("ulimit -n {count} && exec \"$0\" \"$@\"");
            Run::cycle(&upstream, &database)
                .args(["--enqueue", "none", "--max-retries", "0"])
                .env("DATABASE_URL", &url)
                .through(["sh", "-c", &limit])
        };
        // File descriptors for signals, HTTP, the connections
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

#[test]
fn a_closed_pipe_does_not_change_the_result() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    upstream.add(validated(1, 1));
    // The reader closes the pipe before the program starts.
    let shell = "exec 4> >(exec 0<&-); wait $!; exec \"$@\" >&4 2>&4";
    let run = Run::cycle(&upstream, &database).through(["bash", "-c", shell, "bash"]);
    assert_eq!(run.output().code(), 0);
    assert_eq!(database.count("proactivite_requests"), 1);
}
