//! The progress line: shown only on a terminal, and only while a cycle runs.

use crate::harness::terminal::rendered;
use crate::harness::*;

const LINE: &str = "Listing: 1 pages, 10 demandes, ";

/// Starts a fake DataPass with one and a half pages of ten rows.
fn upstream() -> DataPass {
    let upstream = DataPass::start();
    for id in 1..=15 {
        upstream.add(Demande::cnous(id));
    }
    upstream
}

fn cycle(upstream: &DataPass, database: &Database) -> Run {
    Run::cycle(upstream, database)
        .args(["--page-size", "10", "--concurrency", "1", "--enqueue", "none"])
        .args(["--max-retries", "0"])
        .env("TERM", "xterm-256color")
}

/// Expects complete log lines that start with these texts in this order, then the summary, and
/// nothing else.
#[track_caller]
fn assert_log(screen: &str, texts: &[&str]) {
    let screen = rendered(screen);
    let mut lines: Vec<&str> = screen.lines().collect();
    assert!(lines.pop().is_some_and(|line| line.starts_with("outcome=")), "{screen}");
    assert_eq!(lines.len(), texts.len(), "{screen}");
    for (line, text) in lines.iter().zip(texts) {
        assert!(line.starts_with(text), "{screen}");
    }
}

#[test]
fn the_line_shows_the_progress_of_a_slow_listing_and_is_erased() {
    let (upstream, database) = (upstream(), Database::migrated());
    let gate = upstream.gate(On::page(2));
    let mut terminal = cycle(&upstream, &database).arg("-v").on_terminal();
    gate.reached();
    terminal.wait_for(LINE);
    gate.open();
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    let mut expected_lines = vec![
        "info: Settings: version 0.1.0; commit ",
        "info: Jobs go to",
        "info: Authenticated",
        "info: Page at offset 0: status 200, 10 rows, ",
        "info: Page at offset ",
        "info: Page at offset ",
        "info: Page at offset ",
    ];
    expected_lines.extend(["info: Created D"; 15]);
    expected_lines.push("info: The watermark was none");
    assert_log(&screen, &expected_lines);
}

#[test]
fn a_failure_or_a_signal_erases_the_line() {
    for signalled in [false, true] {
        let (upstream, database) = (upstream(), Database::migrated());
        upstream.fault(On::page(2), Fault::Status(403, &[]));
        let gate = upstream.gate(On::page(2));
        let mut terminal = cycle(&upstream, &database).on_terminal();
        gate.reached();
        terminal.wait_for(LINE);
        if signalled {
            terminal.press("\x03");
            terminal.wait_for("outcome=");
        }
        gate.open();
        let (code, screen) = terminal.end();
        let (expected, text) = match signalled {
            true => (2, "error: Stopped by a signal"),
            false => (1, "error: "),
        };
        assert_eq!(code, expected, "{screen}");
        // The terminal echoes the key.
        assert_log(&screen.replace("^C", ""), &[text]);
    }
}

/// Several threads log while the line is drawn and erased.
#[test]
fn log_lines_are_not_interleaved_with_the_line() {
    let (upstream, database) = (DataPass::start(), Database::migrated());
    for id in 1..=200 {
        upstream.add(Demande::cnous(id).siret("1"));
    }
    let run = cycle(&upstream, &database).args(["--concurrency", "4", "-v"]);
    let (code, screen) = run.on_terminal().end();
    let screen = rendered(&screen);
    assert_eq!(code, 0, "{screen}");
    let mut lines: Vec<&str> = screen.lines().collect();
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("warning: Rejected D"), 200, "{screen}");
    assert!(count("info: Page at offset ") > 20, "{screen}");
    assert_eq!(count("Listing: "), 0, "{screen}");
    assert!(lines.pop().is_some_and(|line| line.starts_with("outcome=")), "{screen}");
    assert!(
        lines.iter().all(|line| line.starts_with("warning: ") || line.starts_with("info: ")),
        "{screen}"
    );
}

#[test]
fn there_is_no_line_without_a_capable_terminal() {
    let (upstream, database) = (upstream(), Database::migrated());
    type Change = fn(Run) -> Run;
    let changes: [(Change, usize); 4] = [
        (|run| run.arg("--quiet"), 0),
        (|run| run.args(["--log-format", "json"]), 1),
        (|run| run.env("TERM", "dumb"), 1),
        (|run| run.env_remove("TERM"), 1),
    ];
    for (change, lines) in changes {
        let run = change(cycle(&upstream, &database));
        let (code, screen) = run.on_terminal().end();
        assert_eq!((code, screen.lines().count()), (0, lines), "{screen}");
        assert!(!screen.contains('\u{1b}'), "{screen:?}");
    }
    let run = Run::cycle(&upstream, &database).env("TERM", "xterm").arg("-vv");
    let outcome = run.any_stderr().output();
    outcome.success();
    let all = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(!all.contains(['\u{1b}', '\r']), "{all:?}");
}
