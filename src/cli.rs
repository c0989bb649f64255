//! The command line: flags, their names and help. No work, and no judgement of values.
//!
//! Every value arrives as text and is judged by [`crate::config`], so that all problems can be
//! named together and an empty string can mean "unset" everywhere. Secrets are never flags: a
//! command line is public on its machine.

use std::ffi::OsString;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{
    ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint,
};

use crate::config::VARIABLES;

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
    /// Print a ready entry for a scheduler [env: DATAPASS_PULL_CRON] [default: 0 1 * * *, in UTC]
    #[command(after_help = EXIT_STATUS)]
    Schedule {
        /// The scheduler
        scheduler: Scheduler,
        /// The container image; needed for kubernetes
        #[arg(long, value_name = "IMAGE")]
        image: Option<String>,
    },
    /// Print a completion script
    #[command(after_help = EXIT_STATUS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// A scheduler that an entry can be printed for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Scheduler {
    /// A crontab line
    Crontab,
    /// A CronJob
    Kubernetes,
    /// A service and a timer
    Systemd,
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

impl CycleArgs {
    /// Fills what is absent from `outer`, the options that stood before the command's name.
    fn or(self, outer: Self) -> Self {
        Self {
            since: self.since.or(outer.since),
            dry_run: self.dry_run || outer.dry_run,
            quiet: self.quiet || outer.quiet,
            page_size: self.page_size.or(outer.page_size),
            concurrency: self.concurrency.or(outer.concurrency),
            lookback: self.lookback.or(outer.lookback),
            max_retries: self.max_retries.or(outer.max_retries),
            metrics_file: self.metrics_file.or(outer.metrics_file),
        }
    }

    /// Tells whether no option was given.
    fn is_empty(&self) -> bool {
        let Self {
            since,
            dry_run,
            quiet,
            page_size,
            concurrency,
            lookback,
            max_retries,
            metrics_file,
        } = self;
        let texts = [since, page_size, concurrency, lookback, max_retries];
        !dry_run && !quiet && metrics_file.is_none() && texts.iter().all(|text| text.is_none())
    }
}

/// Reads the command line, the program's name first.
///
/// After it, `cycle` holds the options of the cycle wherever they stood; a command without a
/// cycle refuses them.
///
/// # Errors
///
/// clap's own error, which also carries `--help` and `--version`. No secret is an option, and an
/// address or a setting typed where none belongs is not repeated: it may hold a password.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command
        .try_get_matches_from_mut(args)
        .map_err(without_settings)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    match &mut cli.command {
        None => {}
        Some(Command::Pull(inner) | Command::Check(inner)) => {
            let outer = std::mem::take(&mut cli.cycle);
            cli.cycle = std::mem::take(inner).or(outer);
        }
        Some(_) if cli.cycle.is_empty() => {}
        Some(_) => {
            let name = matches.subcommand_name().unwrap_or_default();
            let message = format!("options of a cycle cannot be used with '{name}'");
            return Err(command.error(ErrorKind::ArgumentConflict, message));
        }
    }
    Ok(cli)
}

/// Takes addresses and `NAME=value` out of what clap repeats of a refused command line.
fn without_settings(mut error: clap::Error) -> clap::Error {
    let repeated = [
        ContextKind::InvalidArg,
        ContextKind::InvalidSubcommand,
        ContextKind::InvalidValue,
    ];
    for kind in repeated {
        let value = error.get(kind).map(ToString::to_string);
        let told = match value.unwrap_or_default() {
            value if value.contains("://") => "an address",
            value if value.contains('=') => "a setting",
            _ => continue,
        };
        error.insert(kind, ContextValue::String(told.to_owned()));
    }
    error
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
    use super::*;

    fn parsed(args: &str) -> Result<Cli, clap::Error> {
        parse(
            std::iter::once("datapass-pull")
                .chain(args.split_whitespace())
                .map(OsString::from),
        )
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn options_of_a_cycle_stand_with_and_without_its_command() {
        let options = "--since 7d --dry-run -q --page-size 5 --concurrency 1 --lookback 2h \
                       --max-retries 0 --metrics-file m --timeout 1m --enqueue none --format json \
                       --log-format json --env-file e -vv";
        let (before, after) = options.split_at(options.find("--page-size").unwrap());
        for args in [
            options.to_owned(),
            format!("pull {options}"),
            format!("{options} pull"),
            format!("{before} pull {after}"),
            format!("{options} check"),
            format!("{before} check {after}"),
        ] {
            let cli = parsed(&args).unwrap();
            let (cycle, global) = (&cli.cycle, &cli.global);
            assert_eq!(cycle.since.as_deref(), Some("7d"), "{args}");
            assert!(cycle.dry_run && cycle.quiet, "{args}");
            assert_eq!(cycle.page_size.as_deref(), Some("5"), "{args}");
            assert_eq!(cycle.concurrency.as_deref(), Some("1"), "{args}");
            assert_eq!(cycle.lookback.as_deref(), Some("2h"), "{args}");
            assert_eq!(cycle.max_retries.as_deref(), Some("0"), "{args}");
            assert_eq!(cycle.metrics_file.as_deref(), Some("m".as_ref()), "{args}");
            assert_eq!(global.timeout.as_deref(), Some("1m"), "{args}");
            assert_eq!(global.enqueue.as_deref(), Some("none"), "{args}");
            assert_eq!(global.format.as_deref(), Some("json"), "{args}");
            assert_eq!(global.log_format.as_deref(), Some("json"), "{args}");
            assert_eq!(global.env_file.as_deref(), Some("e".as_ref()), "{args}");
            assert_eq!(global.verbose, 2, "{args}");
            assert_eq!(cli.is_cycle(), !args.contains("check"), "{args}");
        }
    }

    #[test]
    fn global_options_stand_anywhere() {
        let options = "-v --log-format json --env-file e --enqueue none --timeout 1m --format json";
        for command in [
            "check",
            "status",
            "migrate",
            "rejected list",
            "rejected accept 5 --reason x",
            "watermark set 1d",
            "watermark reset",
            "schedule systemd",
            "completions bash",
        ] {
            for args in [
                format!("{options} {command}"),
                format!("{command} {options}"),
            ] {
                let global = parsed(&args).unwrap().global;
                assert_eq!(global.verbose, 1, "{args}");
                assert_eq!(global.format.as_deref(), Some("json"), "{args}");
                assert_eq!(global.env_file.as_deref(), Some("e".as_ref()), "{args}");
                assert_eq!(global.timeout.as_deref(), Some("1m"), "{args}");
            }
        }
    }

    #[test]
    fn the_last_of_two_equal_options_wins() {
        let cases = [
            ("--since 1d --since 2d", Some("2d")),
            ("--since 1d pull --since 2d", Some("2d")),
            ("pull --since 1d --since=2d", Some("2d")),
            ("pull --since=", Some("")),
            ("pull", None),
        ];
        for (args, since) in cases {
            assert_eq!(
                parsed(args).unwrap().cycle.since.as_deref(),
                since,
                "{args}"
            );
        }
        let cases = [
            "--format text --format json",
            "--format text status --format json",
        ];
        for args in cases {
            assert_eq!(
                parsed(args).unwrap().global.format.as_deref(),
                Some("json"),
                "{args}"
            );
        }
        assert_eq!(parsed("-v -vv").unwrap().global.verbose, 3);
    }

    #[test]
    fn what_no_command_takes_is_refused() {
        for args in [
            "--since 7d status",
            "--dry-run migrate",
            "-q watermark reset",
            "status --since 7d",
            "frobnicate",
            "--frobnicate",
            "pull status",
            "rejected",
            "rejected accept",
            "rejected accept 5",
            "watermark",
            "watermark set",
            "schedule",
            "schedule launchd",
            "completions",
            "completions tcsh",
            "--since",
            "--dry-run=yes",
            "--client-secret hunter2",
            "--client-secret=hunter2",
            "postgres://u:hunter2@h/d",
            "migrate postgres://u:hunter2@h/d",
            "--dry-run=postgres://u:hunter2@h/d",
            "schedule postgres://u:hunter2@h/d",
            "-- postgres://u:hunter2@h/d",
        ] {
            let error = parsed(args).unwrap_err();
            assert!(error.use_stderr(), "{args}");
            assert!(!error.to_string().contains("hunter2"), "{args}: {error}");
        }
        let error = parsed("--since 7d status").unwrap_err().to_string();
        assert!(
            error.contains("options of a cycle cannot be used with 'status'"),
            "{error}"
        );
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
