//! The systemd entry: a `oneshot` service and its timer.
//!
//! Settings are those of systemd 247 (Debian 11) and later.

use chrono::Weekday;

use super::{RETRIES, START_SECONDS, STOP_SECONDS, run_seconds, span};
use crate::config::ScheduleConfig;
use crate::types::cron::{Cron, Field, compact};

/// The wait before a retry. systemd has no growing waits before version 254.
const MAX_RESTART_SECONDS: u64 = 300;

/// How late the timer may fire at most, so that machines do not start all at once.
const MAX_RANDOM_DELAY_SECONDS: u64 = 60;

/// Returns both files, each under a comment with its path.
pub(super) fn entry(
    config: &ScheduleConfig,
    binary: &str,
    env_file: &str,
) -> Result<String, String> {
    let (cron, run_seconds) = (&config.cron, run_seconds(config));
    let pace = Pace::new(cron, run_seconds);
    // A home is hidden, unless the program is there.
    let is_in_home = ["/home/", "/root/", "/run/user/"].iter().any(|home| binary.starts_with(home));
    Ok(format!(
        include_str!("systemd.txt"),
        retries = RETRIES,
        starts = RETRIES + 1,
        limit = span(pace.limit_interval_seconds),
        program = program(binary)?,
        timeout = span(config.timeout.as_secs()),
        env_file = glob_free(env_file)?,
        restart = span(pace.restart_seconds),
        start_timeout = span(run_seconds + START_SECONDS),
        stop_timeout = span(STOP_SECONDS),
        protect_home = if is_in_home { "read-only" } else { "yes" },
        cron = cron,
        calendar = on_calendar(cron)?,
        delay = span(pace.random_delay_seconds),
    ))
}

/// The times that depend on how often the timer fires.
#[derive(Debug, PartialEq, Eq)]
struct Pace {
    random_delay_seconds: u64,
    restart_seconds: u64,
    limit_interval_seconds: u64,
}

impl Pace {
    /// Allows a failing start its retries without ever refusing an ordinary one.
    ///
    /// The limit counts every start in its interval, the timer's too. Where the timer leaves enough
    /// time, the interval spans six starts of full length; else it ends before the next start, which
    /// then has a limit of its own, and the waits shrink so that six short starts fall within it.
    fn new(cron: &Cron, run_seconds: u64) -> Self {
        let gap = cron.shortest_gap().as_secs();
        let random_delay_seconds = (gap / 10).min(MAX_RANDOM_DELAY_SECONDS);
        let one_start = run_seconds + START_SECONDS + STOP_SECONDS + MAX_RESTART_SECONDS;
        let limit_interval_seconds = ((RETRIES + 1) * one_start).min(gap - random_delay_seconds);
        Self {
            random_delay_seconds,
            restart_seconds: (limit_interval_seconds / (RETRIES + 3)).min(MAX_RESTART_SECONDS),
            limit_interval_seconds,
        }
    }
}

/// Returns an expression as an `OnCalendar=` of systemd.time(7), in UTC.
///
/// An expression with both day fields has no equivalent and is an error.
fn on_calendar(cron: &Cron) -> Result<String, String> {
    let [minutes, hours, days, months, weekdays] = cron.fields();
    if !days.is_any() && !weekdays.is_any() {
        return Err(format!(
            "DATAPASS_PULL_CRON: `{cron}` sets the day of month and the day of week; cron then runs on \
             either day and systemd only where both match, so that no timer is equivalent: set \
             one of them to `*`"
        ));
    }
    let numbers = |field: &Field| match field.is_any() {
        true => "*".to_owned(),
        false => compact(&field.values, "..", |value| format!("{value:02}")),
    };
    let [minutes, hours, days, months] = [minutes, hours, days, months].map(numbers);
    // systemd's week begins on Monday.
    let mut weekdays: Vec<u8> = weekdays.values.iter().map(|day| (day + 6) % 7).collect();
    weekdays.sort_unstable();
    let name = |day: &u8| Weekday::try_from(*day).map(|day| day.to_string()).unwrap_or_default();
    let weekdays = match weekdays.len() {
        7 => String::new(),
        _ => compact(&weekdays, "..", name) + " ",
    };
    Ok(format!("{weekdays}*-{months}-{days} {hours}:{minutes}:00 UTC"))
}

/// Returns the path of a program for `ExecStart=`.
///
/// `%` begins a specifier. `$` stays: variables are not expanded in the path of the program.
fn program(path: &str) -> Result<String, String> {
    if path.contains(['"', '\'', '\\']) {
        return Err(format!(
            "The program's path {path:?} has a quote or a backslash, which systemd refuses: \
             move the program"
        ));
    }
    let path = path.replace('%', "%%");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    Ok(if path.chars().all(plain) { path } else { format!("\"{path}\"") })
}

/// Returns the path of `EnvironmentFile=`, which is a glob pattern and has no quoting.
fn glob_free(path: &str) -> Result<String, String> {
    if path.contains(['*', '?', '[', '\\']) {
        return Err(format!(
            "--env-file {path:?} has a wildcard, which systemd would expand: move the file"
        ));
    }
    Ok(path.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Scheduler;

    fn cron(text: &str) -> Cron {
        text.parse().expect(text)
    }

    #[test]
    fn cron_fields_are_converted_to_on_calendar() {
        for (text, calendar) in [
            ("0 1 * * *", "*-*-* 01:00:00 UTC"),
            ("* * * * *", "*-*-* *:*:00 UTC"),
            ("*/15 8-18 * * MON-FRI", "Mon..Fri *-*-* 08..18:00,15,30,45:00 UTC"),
            ("0 1 * * 0", "Sun *-*-* 01:00:00 UTC"),
            ("0 1 * * 5-7", "Fri..Sun *-*-* 01:00:00 UTC"),
            ("0 1 * * 0,1,3", "Mon,Wed,Sun *-*-* 01:00:00 UTC"),
            ("5 4 1,15 1-3 *", "*-01..03-01,15 04:05:00 UTC"),
            ("0 1 * * 0-6", "*-*-* 01:00:00 UTC"),
        ] {
            assert_eq!(on_calendar(&cron(text)).as_deref(), Ok(calendar), "{text}");
        }
    }

    #[test]
    fn both_day_fields_are_refused_with_the_reason() {
        let problem = on_calendar(&cron("0 1 1 * MON")).expect_err("either day");
        assert!(problem.contains("either day and systemd only where both match"), "{problem}");
    }

    #[test]
    fn only_quick_failures_reach_the_start_limit() {
        for text in ["* * * * *", "*/5 * * * *", "*/15 * * * *", "0 * * * *", "0 */2 * * *"] {
            let cron = cron(text);
            for timeout in [60, 900, 7200] {
                let pace = Pace::new(&cron, timeout);
                let gap = cron.shortest_gap().as_secs();
                assert!(pace.limit_interval_seconds + pace.random_delay_seconds <= gap, "{text}");
                assert!(
                    pace.restart_seconds * (RETRIES + 1) < pace.limit_interval_seconds,
                    "{text}"
                );
                assert!(pace.restart_seconds > 0, "{text}");
            }
        }
        let daily = Pace::new(&cron("0 1 * * *"), 900);
        assert_eq!(daily.restart_seconds, 300);
        assert_eq!(daily.limit_interval_seconds, 6 * (900 + 60 + 30 + 300));
    }

    #[test]
    fn paths_are_quoted_for_their_setting() {
        assert_eq!(program("/usr/bin/a").as_deref(), Ok("/usr/bin/a"));
        assert_eq!(program("/opt/a b/$x 5%").as_deref(), Ok("\"/opt/a b/$x 5%%\""));
        for path in ["/a'b", "/a\"b", "/a\\b"] {
            assert!(program(path).is_err(), "{path}");
        }
        assert_eq!(glob_free("/etc/a b%").as_deref(), Ok("/etc/a b%%"));
        assert!(glob_free("/etc/a*").is_err());
    }

    #[test]
    fn a_program_in_a_home_directory_is_accessible() {
        let config = super::super::tests::config(Scheduler::Systemd);
        let entry = |binary| entry(&config, binary, "/e");
        let text = entry("/home/x/.cargo/bin/datapass-pull").expect("an entry");
        assert!(text.contains("ProtectHome=read-only\n"), "{text}");
        let text = entry("/usr/local/bin/datapass-pull").expect("an entry");
        assert!(text.contains("ProtectHome=yes\n"), "{text}");
    }
}
