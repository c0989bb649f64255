//! The crontab entry: cron has no second try and mails all output, so the line brings both along.

use std::fmt::Write as _;

use crate::types::cron::Cron;

/// The waits between tries, as parts of their sum.
const WAIT_SHARES: [u64; super::RETRIES as usize] = [1, 2, 4, 8, 15];

/// The shortest wait at most, so that all of them together take half an hour.
const MAX_SHARE_SECONDS: u64 = 60;

/// Vixie cron cuts a longer command without a word (`MAX_COMMAND` of its `cron.h`, less the end).
const MAX_COMMAND_BYTES: usize = 998;

/// Returns comments, `CRON_TZ` and one line.
pub(super) fn entry(cron: &Cron, binary: &str, env_file: &str) -> Result<String, String> {
    // All waits fit into half the time to the next start: an outage does not pile up shells.
    let share = (cron.shortest_gap().as_secs() / 60).clamp(1, MAX_SHARE_SECONDS);
    let waits = WAIT_SHARES.map(|part| (part * share).to_string());
    let command = command(binary, env_file, &waits.join(" "));
    if command.len() > MAX_COMMAND_BYTES {
        return Err(format!(
            "the paths of the program and of --env-file make a command of {} bytes, and cron \
             takes {MAX_COMMAND_BYTES}: move the files",
            command.len()
        ));
    }
    Ok(format!(
        "# datapass-pull, one cycle at: {cron} (UTC)\n\
         #\n\
         # For the crontab of a user who may read {env_file}: crontab -e\n\
         # In /etc/crontab or /etc/cron.d, write that user's name before the command.\n\
         #\n\
         # CRON_TZ counts for every line below it. cronie (Fedora, RHEL, Arch) honours it.\n\
         # Debian's and Ubuntu's cron and BusyBox's crond ignore it: they run the line in the\n\
         # daemon's own time zone, the machine's; there, write the times in that zone.\n\
         #\n\
         # No flock: runs at once are safe, each request still gives one row and one job.\n\
         # A success prints nothing; a failure prints what its last try said, which cron mails\n\
         # to the owner or to MAILTO.\n\
         # Status 2 (transient) is tried again after {} seconds; every other status ends it.\n\
         CRON_TZ=UTC\n\
         {cron} {command}\n",
        waits.join(", "),
    ))
}

fn command(binary: &str, env_file: &str, waits: &str) -> String {
    // Unquoted, `\%` is a percent sign where cron takes the backslash away and where it does not.
    format!(
        "for pause in {waits} end; do \
         out=$({} --quiet --env-file {} 2>&1); status=$?; \
         [ $status -eq 2 ] && [ $pause != end ] || break; sleep $pause; done; \
         [ $status -eq 0 ] || {{ printf \\%s\\\\n \"$out\"; \
         echo \"datapass-pull failed with status $status\"; }}; exit $status",
        quote(binary),
        quote(env_file),
    )
}

/// Quotes a word for `sh`, inside a crontab.
///
/// cron ends the command at `%`, and takes the backslash of `\%` away, quotes or not. A percent
/// sign is therefore written outside the quotes, where a backslash before it cannot mislead.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    if word.chars().all(plain) {
        return word.to_owned();
    }
    let mut quoted = String::from("'");
    for c in word.chars() {
        // Writing to a string does not fail.
        let _ = match c {
            '\'' | '%' => write!(quoted, "'\\{c}'"),
            _ => write!(quoted, "{c}"),
        };
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry_of(cron: &str, binary: &str) -> Result<String, String> {
        entry(
            &cron.parse().expect("cron"),
            binary,
            "/etc/datapass-pull.env",
        )
    }

    #[test]
    fn the_waits_grow_and_fit_before_the_next_start() {
        for (cron, waits) in [
            ("0 1 * * *", "60 120 240 480 900"),
            ("*/15 * * * *", "15 30 60 120 225"),
            ("* * * * *", "1 2 4 8 15"),
        ] {
            let text = entry_of(cron, "/bin/datapass-pull").expect("an entry");
            assert!(text.contains(&format!("in {waits} end;")), "{text}");
        }
    }

    #[test]
    fn a_command_that_cron_would_cut_is_refused() {
        let room =
            MAX_COMMAND_BYTES - command("", "/etc/datapass-pull.env", "60 120 240 480 900").len();
        let longest = format!("/{}", "x".repeat(room - 1));
        entry_of("0 1 * * *", &longest).expect("it fits");
        let problem = entry_of("0 1 * * *", &format!("{longest}x")).expect_err("too long");
        assert!(problem.contains("999 bytes"), "{problem}");
    }

    #[test]
    fn words_are_quoted_only_when_they_must() {
        assert_eq!(quote("/usr/local/bin/a-b_c.d"), "/usr/local/bin/a-b_c.d");
        assert_eq!(quote("/a b"), "'/a b'");
        assert_eq!(quote("/it's 5%"), r"'/it'\''s 5'\%''");
    }
}
