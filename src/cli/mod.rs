//! The command line: flags, their names and help. No work, and no judgement of values.
//!
//! Every value arrives as text and is judged by [`crate::config`], so that all problems can be
//! named together and an empty string can mean "unset" everywhere. Secrets are never flags: a
//! command line is public on its machine.

mod parse;
pub mod variables;

use std::ffi::OsString;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};

pub use parse::parse;

use self::variables::VARIABLES;

const EXIT_STATUS: &str = "\
Exit status:
  0  Success; rejected rows do not change that, they are reported
  1  Permanent: a person must act (usage, configuration, a refusal, a wrong answer)
  2  Transient: run it again (connection, time-out, server error, busy database, signal)";

/// Pull validated DataPass authorization requests into PostgreSQL, nothing lost, nothing twice.
///
/// One run is one cycle: authenticate, list what DataPass has validated, create the rows that are
/// missing, advance the watermark. Without a command it runs one cycle, like `pull`.
#[derive(Debug, Parser)]
#[command(name = "datapass-pull", version, args_override_self = true, after_help = EXIT_STATUS)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// Options of a cycle, given without a command or before it.
    #[command(flatten)]
    pub cycle: CycleArgs,
    /// What to do; a cycle when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The options that may stand before or after any command.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Log more of this program on standard error; repeat for more. Wins over RUST_LOG
    /// [default: warnings]
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Form of the log [env: DATAPASS_LOG_FORMAT] [default: text]
    #[arg(long, global = true, value_name = "FORM", value_parser = Known(&["text", "json"]))]
    pub log_format: Option<String>,
    /// Form of the summary line and of answers [env: DATAPASS_FORMAT] [default: text]
    #[arg(long, global = true, value_name = "FORM", value_parser = Known(&["text", "json"]))]
    pub format: Option<String>,
    /// Read variables from FILE; what the environment already sets wins
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub env_file: Option<OsString>,
    /// How a created row is handed on [env: DATAPASS_ENQUEUE] [default: auto]
    ///
    /// auto uses the table good_jobs when it is there; good_job demands it; none leaves pending
    /// rows to be polled.
    #[arg(long, global = true, value_name = "MODE", value_parser = Known(&["auto", "good_job", "none"]))]
    pub enqueue: Option<String>,
    /// Deadline of the whole cycle, as an age such as 90s or 15m [env: DATAPASS_TIMEOUT]
    /// [default: 15m]
    #[arg(long, global = true, value_name = "AGE")]
    pub timeout: Option<String>,
}

/// The options of a cycle.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Cycle options")]
pub struct CycleArgs {
    /// List from TIME instead of the watermark [default: the watermark]
    ///
    /// TIME is RFC 3339 with an offset (2026-05-18T10:00:00Z), a date (2026-05-18, midnight UTC) or
    /// an age (36h, 7d). It must not be in the future.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Do it all, write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print nothing on success, not even warnings
    #[arg(short, long)]
    pub quiet: bool,
    /// Rows asked for a page, 1 to 1000 [env: DATAPASS_PAGE_SIZE] [default: 1000]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub page_size: Option<String>,
    /// Pages in flight, 1 to 4 [env: DATAPASS_CONCURRENCY] [default: 2]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub concurrency: Option<String>,
    /// How far before the watermark a cycle looks again, at least 1m [env: DATAPASS_LOOKBACK]
    /// [default: 1h]
    #[arg(long, value_name = "AGE", allow_hyphen_values = true)]
    pub lookback: Option<String>,
    /// Further tries of one request, 0 to 100 [env: DATAPASS_MAX_RETRIES] [default: 5]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub max_retries: Option<String>,
    /// Write Prometheus metrics to FILE, for a textfile collector [env: DATAPASS_METRICS_FILE]
    /// [default: none]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub metrics_file: Option<OsString>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one cycle; the same as giving no command
    #[command(after_help = EXIT_STATUS)]
    Pull(CycleArgs),
    /// Prove the set-up without writing: configuration, token, listing, definition, tables, clock
    ///
    /// Takes the options of a cycle too, so that a scheduled command line can be proved as it is.
    #[command(after_help = EXIT_STATUS)]
    Check(CycleArgs),
    /// Show the watermark, the last cycles and the rejected rows
    #[command(after_help = EXIT_STATUS)]
    Status,
    /// Create or upgrade the tables; safe to repeat
    #[command(after_help = EXIT_STATUS)]
    Migrate {
        /// Show the SQL instead; contacts nothing
        #[arg(long)]
        print: bool,
        /// Allow to rename or retype a column of a table that this program did not make
        #[arg(long)]
        yes: bool,
    },
    /// List the rows that failed validation, or accept one
    #[command(after_help = EXIT_STATUS)]
    Rejected {
        /// What to do with them.
        #[command(subcommand)]
        action: Rejected,
    },
    /// Move the watermark by hand
    #[command(after_help = EXIT_STATUS)]
    Watermark {
        /// How to move it.
        #[command(subcommand)]
        action: Watermark,
    },
    /// Print an entry for a scheduler
    #[command(after_help = EXIT_STATUS)]
    Schedule {
        /// The scheduler.
        #[command(subcommand)]
        scheduler: Scheduler,
    },
    /// Print a completion script
    #[command(after_help = EXIT_STATUS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// `schedule …`.
#[derive(Debug, Subcommand)]
pub enum Scheduler {
    /// Print a crontab entry [env: DATAPASS_PULL_CRON] [default: 0 1 * * *, in UTC]
    #[command(after_help = EXIT_STATUS)]
    Crontab {
        /// Retry a cycle that ends with status 2 until AGE has passed since its start
        /// [default: half the time to the next start, at most 1h]
        #[arg(long, value_name = "AGE", allow_hyphen_values = true)]
        retry_for: Option<String>,
    },
    /// Print a CronJob or a single Job [env: DATAPASS_PULL_CRON] [default: 0 1 * * *, in UTC]
    #[command(after_help = EXIT_STATUS)]
    Kubernetes {
        /// The container image, with a tag or a digest
        #[arg(long, value_name = "IMAGE")]
        image: String,
        /// The name of every object, for several definitions in one namespace
        #[arg(long, value_name = "NAME", default_value = "datapass-pull")]
        name: String,
        /// Print this Job instead of the CronJob
        #[arg(long, value_name = "JOB")]
        job: Option<Job>,
        /// For --job replay: create what has no row now among what was validated at or after TIME
        ///
        /// TIME is RFC 3339 with an offset (2026-05-18T10:00:00Z), a date (2026-05-18, midnight UTC)
        /// or an age (36h, 7d) before the start of the Job.
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        since: Option<String>,
    },
    /// Print a service and a timer [env: DATAPASS_PULL_CRON] [default: 0 1 * * *, in UTC]
    #[command(after_help = EXIT_STATUS)]
    Systemd,
}

/// A Job that is started by hand.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Job {
    /// Creates or upgrades the tables
    Migrate,
    /// Lists from --since
    Replay,
}

/// `rejected …`.
#[derive(Debug, Subcommand)]
pub enum Rejected {
    /// List the rows that failed validation, the id first
    List,
    /// Stop one rejected row from holding the watermark
    Accept {
        /// The row: 5, D5 or the public id
        id: String,
        /// Why it is accepted; kept in the table
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        reason: String,
    },
}

/// `watermark …`.
#[derive(Debug, Subcommand)]
pub enum Watermark {
    /// Set it to a time that is not in the future
    Set {
        /// RFC 3339 with an offset, a date (midnight UTC) or an age (36h, 7d)
        #[arg(allow_hyphen_values = true)]
        time: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Forget it, so that the next cycle lists everything; frees the definition too
    Reset {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Takes any text, and tells help and completions the words that the configuration knows.
#[derive(Clone)]
struct Known(&'static [&'static str]);

impl TypedValueParser for Known {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

impl Cli {
    /// Tells whether this is a pull cycle, which always ends with a summary line.
    pub fn is_cycle(&self) -> bool {
        matches!(self.command, None | Some(Command::Pull(_)))
    }
}

/// Returns the definition of the command line, for help, completions and the manual's test.
pub fn command() -> clap::Command {
    let mut text = String::from("Environment (an empty string is the same as unset):\n");
    for variable in VARIABLES {
        text.push_str(&format!("  {}\n      {}", variable.name, variable.help));
        if variable.required {
            text.push_str(" [required]");
        }
        if let Some(default) = variable.default {
            text.push_str(&format!(" [default: {default}]"));
        }
        text.push('\n');
    }
    Cli::command().after_long_help(format!("{text}\n{EXIT_STATUS}"))
}

/// Returns the completion script for a shell.
pub fn completions(shell: clap_complete::Shell) -> String {
    let generated = |name: &str| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command(), name, &mut script);
        String::from_utf8_lossy(&script).into_owned()
    };
    if shell == clap_complete::Shell::Bash {
        // In a program's name with a hyphen the library's script spells the commands in two ways
        // and finds none of them, so only the last word of its registration has the hyphen.
        return generated("datapass_pull")
            .replace("default datapass_pull\n", "default datapass-pull\n");
    }
    generated("datapass-pull")
}

#[cfg(test)]
mod tests {
    use super::parse::tests::parsed;
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn help_and_version_are_no_failures() {
        for args in [
            "--help",
            "-h",
            "help",
            "--version",
            "-V",
            "pull --help",
            "help watermark set",
        ] {
            assert!(!parsed(args).unwrap_err().use_stderr(), "{args}");
        }
        assert_eq!(
            parsed("-V").unwrap_err().to_string(),
            concat!("datapass-pull ", env!("CARGO_PKG_VERSION"), "\n")
        );
    }

    #[test]
    fn help_tells_variables_defaults_and_exit_statuses() {
        let help = parsed("--help").unwrap_err().to_string();
        assert!(help.trim_end().ends_with(EXIT_STATUS), "{help}");
        for variable in VARIABLES {
            assert!(
                help.contains(&format!("\n  {}\n", variable.name)),
                "{}",
                variable.name
            );
        }
        let mut command = command();
        command.build();
        for variable in VARIABLES {
            let Some(option) = variable.option else {
                continue;
            };
            let arg = command
                .get_arguments()
                .find(|arg| {
                    Some(option) == arg.get_long().map(|long| format!("--{long}")).as_deref()
                })
                .unwrap();
            let help = arg.get_help().unwrap().to_string();
            assert!(
                help.contains(&format!("[env: {}]", variable.name)),
                "{help}"
            );
            let default = variable.default.unwrap_or("none");
            assert!(help.contains(&format!("[default: {default}]")), "{help}");
        }
        for name in [
            "pull",
            "check",
            "status",
            "migrate",
            "rejected",
            "watermark",
            "schedule",
        ] {
            let help = parsed(&format!("{name} --help")).unwrap_err().to_string();
            assert!(help.contains("Exit status:"), "{help}");
        }
    }

    #[test]
    fn every_shell_gets_its_completions() {
        for shell in clap_complete::Shell::value_variants() {
            let script = completions(*shell);
            for word in ["page-size", "watermark"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
            let knows_values = script.contains("good_job");
            let has_values = ["bash", "zsh", "fish"].contains(&shell.to_string().as_str());
            assert!(knows_values || !has_values, "{shell}");
        }
    }
}
