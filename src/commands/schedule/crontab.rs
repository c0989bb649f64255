//! The crontab entry: one line. cron mails what a command prints and does not look at its status.

use super::span;
use crate::cli::variables::Variable;
use crate::config::ScheduleConfig;
use crate::types::cron::Cron;

/// How long a transient cycle is retried at most, when `--retry-for` is absent.
const MAX_RETRY_MINUTES: u64 = 60;

/// Returns comments, `CRON_TZ` and one line.
pub(super) fn entry(config: &ScheduleConfig, binary: &str, env_file: &str) -> String {
    let (cron, command) = (&config.cron, command(config, binary, env_file));
    format!(include_str!("crontab.txt"), cron = cron, env_file = env_file, command = command)
}

fn command(config: &ScheduleConfig, binary: &str, env_file: &str) -> String {
    let mut command = format!("{} --env-file {}", quote(binary), quote(env_file));
    let default = || default_retry_seconds(&config.cron);
    let retry_seconds = config.retry_for.map_or_else(default, |age| age.as_secs());
    if retry_seconds > 0 {
        command += &format!(" --retry-for {}", span(retry_seconds));
    }
    let timeout = span(config.timeout.as_secs());
    let default = Variable::find("DATAPASS_TIMEOUT").and_then(|variable| variable.default);
    if default != Some(&timeout) {
        command += &format!(" --timeout {timeout}");
    }
    command + " >/dev/null"
}

/// Returns half the time to the next start in whole minutes, so that retries do not pile up.
fn default_retry_seconds(cron: &Cron) -> u64 {
    (cron.shortest_gap().as_secs() / 120).min(MAX_RETRY_MINUTES) * 60
}

/// Quotes a word for `sh`, inside a crontab.
///
/// cron ends the command at `%`, and removes the backslash of `\%`, quotes or not. A percent sign is
/// therefore written outside the quotes, where a backslash before it is harmless for `sh`.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    if word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''").replace('%', r"'\%'"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CRONTAB, config};
    use super::*;

    #[test]
    fn retries_end_before_half_the_time_to_the_next_start() {
        for (cron, option) in [
            ("0 1 * * *", " --retry-for 1h"),
            ("0 * * * *", " --retry-for 30m"),
            ("*/15 * * * *", " --retry-for 7m"),
            ("*/2 * * * *", " --retry-for 1m"),
            ("* * * * *", ""),
        ] {
            let mut config = config(CRONTAB);
            config.cron = cron.parse().expect(cron);
            assert_eq!(
                command(&config, "/bin/x", "/e"),
                format!("/bin/x --env-file /e{option} >/dev/null")
            );
        }
    }

    #[test]
    fn words_are_quoted_only_if_necessary() {
        assert_eq!(quote("/usr/local/bin/a-b_c.d"), "/usr/local/bin/a-b_c.d");
        assert_eq!(quote("/a b"), "'/a b'");
        assert_eq!(quote("/it's 5%"), r"'/it'\''s 5'\%''");
    }
}
