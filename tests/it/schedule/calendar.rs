//! The timer's `OnCalendar`: `systemd-analyze calendar` compared with another cron library.

use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Utc};
use datapass_pull::cli::Scheduler;
use proptest::prelude::*;

use super::systemd::{SYSTEMD, setting, units};
use super::{config, entry, run, text};

/// Returns the first times after `base` at which systemd starts the timer.
fn elapses(calendar: &str, base: DateTime<Utc>, count: usize) -> Vec<DateTime<Utc>> {
    let output = run(
        Command::new("systemd-analyze")
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .args(["calendar", &format!("--iterations={count}")])
            .arg(format!("--base-time={}", base.format("%Y-%m-%d %H:%M:%S UTC")))
            .arg(calendar),
        SYSTEMD,
    );
    assert!(output.status.success(), "{calendar}: {}", text(&output.stderr));
    text(&output.stdout)
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let rest = line.strip_prefix("Next elapse: ").or_else(|| {
                let (_, rest) = line.strip_prefix("Iter. #")?.split_once(": ")?;
                Some(rest)
            })?;
            let time = NaiveDateTime::parse_from_str(rest, "%a %Y-%m-%d %H:%M:%S UTC");
            Some(time.unwrap_or_else(|error| panic!("{rest}: {error}")).and_utc())
        })
        .collect()
}

/// Compares the timer of a cron expression with the times of another cron library.
fn assert_same_times(cron: &str) {
    let mut config = config(Scheduler::Systemd);
    config.cron = cron.parse().expect(cron);
    let printed = entry(&config, Path::new("/bin/sh"));
    let calendar = setting(&units(&printed)[1].1, "OnCalendar").to_owned();
    // The day before a leap day, and a Monday
    let base = DateTime::from_str("2028-02-28T23:58:30Z").expect("a time");
    let oracle = croner::Cron::from_str(cron).expect(cron);
    let wanted: Vec<DateTime<Utc>> = oracle.iter_after(base).take(12).collect();
    assert_eq!(elapses(&calendar, base, 12), wanted, "{cron} became {calendar}");
}

#[test]
fn the_timer_fires_when_cron_would() {
    for cron in [
        "0 1 * * *",
        "* * * * *",
        "*/15 * * * *",
        "*/7 */5 * * *",
        "0 1 * * 0",
        "0 1 * * 7",
        "0 1 * * 5-7",
        "0 1 * * MON-FRI",
        "0 1 * * sun,wed",
        "0 1 * * */2",
        "0 1 * * */3",
        "30 23 1,15 * *",
        "0 0 29 2 *",
        "0 0 31 * *",
        "0 0 */2 * *",
        "5 4 10-20/5 JAN,JUL-SEP *",
        "0-3,57-59 22,23,0 * 2-3 *",
    ] {
        assert_same_times(cron);
    }
}

/// Generates a field in each format of cron.
fn field(min: u8, max: u8) -> impl Strategy<Value = String> {
    let bounds = move || (min..=max, min..=max).prop_map(|(a, b)| (a.min(b), a.max(b)));
    // A single `*` in a list is valid too, but the other library refuses it.
    let element = prop_oneof![
        2 => (1..=max).prop_map(|step| format!("*/{step}")),
        4 => (min..=max).prop_map(|value| value.to_string()),
        2 => bounds().prop_map(|(a, b)| format!("{a}-{b}")),
        2 => (bounds(), 1..=max).prop_map(|((a, b), step)| format!("{a}-{b}/{step}")),
    ];
    let list = prop::collection::vec(element, 1..4).prop_map(|elements| elements.join(","));
    prop_oneof![1 => Just("*".to_owned()), 4 => list]
}

fn expression() -> impl Strategy<Value = String> {
    let days = prop_oneof![
        // Up to 29, so that the expression matches in each year with a leap day.
        field(1, 29).prop_map(|day| (day, "*".to_owned())),
        field(0, 7).prop_map(|weekday| ("*".to_owned(), weekday)),
    ];
    (field(0, 59), field(0, 23), days, field(1, 12)).prop_map(
        |(minute, hour, (day, weekday), month)| format!("{minute} {hour} {day} {month} {weekday}"),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_timer_fires_when_cron_would(cron in expression()) {
        assert_same_times(&cron);
    }
}
