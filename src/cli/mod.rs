//! The command line: commands, options and their help. Values are validated by the settings.
//!
//! An option belongs to the commands it applies to. Every value stays as it is here, so that all
//! problems are reported together and an empty string means "unset" everywhere. No secret is an
//! option: a command line is public on its machine.

mod parse;
pub mod variables;

use std::ffi::{OsStr, OsString};

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{
    Arg, ArgAction, ArgMatches, Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint,
};

pub use self::parse::{parse, parse_refused};
use self::variables::{VARIABLES, Variable};

const EXIT_STATUS: &str = "\
Exit status:
  0  Success; rejected entries are reported and do not change it
  1  Permanent: an operator must act (usage, configuration, a refusal, an unexpected response)
  2  Transient: run it again (connection, timeout, server error, busy database, signal)";

/// A command line: what to do, and the options that have a variable.
#[derive(Debug)]
pub struct Cli {
    /// What to do.
    pub command: Command,
    /// The options as given.
    pub options: Options,
}

/// The options of a command line, by their long names.
#[derive(Debug, Clone, Default)]
pub struct Options(ArgMatches);

impl Options {
    /// Whether the command has this option.
    pub fn has(&self, long: &str) -> bool {
        self.0.try_contains_id(long).is_ok()
    }

    /// Returns the value of an option; an empty one is the same as none.
    pub fn value(&self, long: &str) -> Option<&OsStr> {
        let value = self.0.try_get_raw(long).ok()??.next_back()?;
        Some(value).filter(|value| !value.is_empty())
    }

    /// Returns how often `-v` was given.
    pub fn verbosity(&self) -> u8 {
        let count = self.0.try_get_one("verbose").ok().flatten();
        count.copied().unwrap_or_default()
    }
}

/// What `--version` prints after the name; `-V` prints the version alone.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("BUILD_COMMIT"),
    "\ntarget: ",
    env!("BUILD_TARGET"),
    "\nTLS: rustls with ring",
);

/// Pull validated DataPass authorization requests into PostgreSQL, nothing lost, nothing twice.
///
/// One run is one cycle: authenticate, list what DataPass has validated, create the rows that are
/// missing, advance the watermark. Without a command it runs one cycle, like `pull`.
#[derive(Debug, Parser)]
#[command(name = "datapass-pull", version, long_version = LONG_VERSION)]
#[command(args_override_self = true, after_help = EXIT_STATUS)]
struct Root {
    #[command(flatten)]
    pull: PullArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one cycle; the same as giving no command
    Pull(PullArgs),
    /// Verify the set-up without writing to the database
    ///
    /// Verifies settings, token, listing, definition, clock, database, tables, privileges and job
    /// target. Takes the options of a cycle too, so that a scheduled command line can be verified
    /// as it is.
    Check,
    /// Show the watermark, the last cycles and the rejected entries
    Status,
    /// Create or upgrade the tables; repeatable
    Migrate(MigrateArgs),
    /// List the rejected entries, accept one, or reopen it
    Rejected {
        /// What to do with them.
        #[command(subcommand)]
        action: Rejected,
    },
    /// Move the watermark by hand
    Watermark {
        /// How to move it.
        #[command(subcommand)]
        action: Watermark,
    },
    /// Print an entry for a scheduler
    Schedule {
        /// The scheduler.
        #[command(subcommand)]
        scheduler: Scheduler,
    },
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// `pull`.
#[derive(Debug, Clone, Default, Args)]
pub struct PullArgs {
    /// Consider only what was validated at or after TIME, and create what has no row now
    ///
    /// TIME is RFC 3339 with an offset (2026-05-18T10:00:00Z), a date (2026-05-18, midnight UTC) or
    /// an age (36h, 7d). It must not be in the future.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Run the cycle without writing
    #[arg(long)]
    pub dry_run: bool,
    /// Print nothing on success; warnings are still logged
    #[arg(short, long)]
    pub quiet: bool,
}

/// `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Print the SQL instead; contacts nothing
    #[arg(long, conflicts_with_all = ["yes", "format"])]
    pub print: bool,
    /// Allow to rename or retype a column of a table that this program did not create
    #[arg(long)]
    pub yes: bool,
}

/// `schedule …`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Scheduler {
    /// Print a crontab entry [env: DATAPASS_PULL_CRON] [default: 0 1 * * *, in UTC]
    Crontab {
        /// Retry a cycle that ends with status 2 until AGE has passed since its start
        /// [default: half the time to the next start, at most 1h]
        // The settings read it as the option of `DATAPASS_RETRY_FOR`.
        #[arg(id = "retry-for", long, value_name = "AGE", allow_hyphen_values = true)]
        retry_for: Option<String>,
    },
    /// Print a CronJob or a single Job [env: DATAPASS_PULL_CRON] [default: 0 1 * * *, in UTC]
    Kubernetes(KubernetesArgs),
    /// Print a service and a timer [env: DATAPASS_PULL_CRON] [default: 0 1 * * *, in UTC]
    Systemd,
}

/// `schedule kubernetes`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct KubernetesArgs {
    /// The container image, with a tag or a digest
    #[arg(long, value_name = "IMAGE")]
    pub image: String,
    /// The name of every object, for several definitions in one namespace
    #[arg(long, value_name = "NAME", default_value = "datapass-pull")]
    pub name: String,
    /// Print this Job instead of the CronJob
    #[arg(long, value_name = "JOB")]
    pub job: Option<Job>,
    /// For --job replay: create what has no row now among what was validated at or after TIME
    ///
    /// TIME is RFC 3339 with an offset (2026-05-18T10:00:00Z), a date (2026-05-18, midnight UTC) or
    /// an age (36h, 7d) before the start of the Job.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
}

/// A Job that is started by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Job {
    /// Creates or upgrades the tables
    Migrate,
    /// Lists from --since
    Replay,
}

/// `rejected …`.
#[derive(Debug, Subcommand)]
pub enum Rejected {
    /// List the rejected entries, the id first
    List,
    /// Accept a rejected entry as it is: it makes no row and no longer holds the watermark
    Accept {
        /// The entry: 5, D5 or the public id
        id: String,
        /// Why it is accepted; kept in the table
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        reason: String,
    },
    /// Withdraw the acceptance of an entry: it is rejected again, and retried by every cycle
    Reopen {
        /// The entry: 5, D5 or the public id
        id: String,
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
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Clear it, and free the definition
    Reset {
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
}

/// Takes any value, and shows completions the words that the settings accept: those of `text|json`.
#[derive(Clone)]
struct AnyValue(&'static str);

impl TypedValueParser for AnyValue {
    type Value = OsString;

    fn parse_ref(
        &self,
        _: &clap::Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<OsString, clap::Error> {
        Ok(value.to_owned())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let words = self.0.contains('|').then(|| self.0.split('|'))?;
        Some(Box::new(words.map(PossibleValue::new)))
    }
}

/// Returns the definition of the command line.
pub fn command() -> clap::Command {
    let mut help = String::from("Environment (an empty string is the same as unset):\n");
    for Variable { name, help: what, default, required, .. } in VARIABLES {
        let note = match default {
            Some(default) => format!(" [default: {default}]"),
            None if *required => " [required]".to_owned(),
            None => String::new(),
        };
        help.push_str(&format!("  {name}\n      {what}{note}\n"));
    }
    Root::command()
        .args(options("pull"))
        .after_long_help(format!("{help}\n{EXIT_STATUS}"))
        .mut_subcommands(|sub| {
            // Global, so that they may stand behind `list` in `rejected list`, too.
            let options = options(sub.get_name()).into_iter().map(|arg| arg.global(true));
            let sub = sub.args(options).after_help(EXIT_STATUS);
            sub.mut_subcommands(|action| action.after_help(EXIT_STATUS))
        })
}

/// Returns the options of a command that have a variable, and those of all that read settings.
fn options(command: &str) -> Vec<Arg> {
    let with_value = |long: &'static str, value: &'static str| {
        let hint = if value == "FILE" { ValueHint::FilePath } else { ValueHint::Unknown };
        let arg = Arg::new(long).long(long).value_name(value).value_hint(hint);
        arg.value_parser(AnyValue(value))
    };
    let of_variable = |variable: &Variable| {
        let Variable { name, help, .. } = variable;
        let option = variable.option.filter(|option| option.is_for(command))?;
        let default = variable.default.unwrap_or("none");
        let arg = with_value(option.long, option.value)
            .help(format!("{help} [env: {name}] [default: {default}]"));
        Some(arg.allow_negative_numbers(true).hide_possible_values(true))
    };
    let mut args: Vec<Arg> = VARIABLES.iter().filter_map(of_variable).collect();
    if command != "completions" {
        let env_file = with_value("env-file", "FILE");
        args.push(env_file.help("Read variables from FILE; the environment wins"));
        let verbose = Arg::new("verbose").short('v').long("verbose");
        args.push(verbose.action(ArgAction::Count).help(
            "Log more of this program; repeat for more. Wins over RUST_LOG [default: warnings]",
        ));
    }
    args
}

/// Returns the completion script for a shell.
pub fn completions(shell: clap_complete::Shell) -> String {
    // In a program's name with a hyphen the library's script for bash spells the commands in two ways
    // and finds none of them, so only the last word of its registration has the hyphen.
    let name = if shell == clap_complete::Shell::Bash { "datapass_pull" } else { "datapass-pull" };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), name, &mut script);
    String::from_utf8_lossy(&script).replace("default datapass_pull\n", "default datapass-pull\n")
}

#[cfg(test)]
mod tests {
    use super::parse::tests::parsed;
    use super::*;

    #[test]
    fn the_clap_definition_is_valid() {
        command().debug_assert();
    }

    #[test]
    fn help_and_version_are_not_errors() {
        for args in ["--help", "-h", "help", "--version", "-V", "pull --help", "help watermark set"]
        {
            assert!(!parsed(args).unwrap_err().use_stderr(), "{args}");
        }
        assert_eq!(
            parsed("-V").unwrap_err().to_string(),
            concat!("datapass-pull ", env!("CARGO_PKG_VERSION"), "\n")
        );
    }

    #[test]
    fn help_has_variables_defaults_and_exit_statuses() {
        let help = parsed("--help").unwrap_err().to_string();
        assert!(help.trim_end().ends_with(EXIT_STATUS), "{help}");
        for variable in VARIABLES {
            assert!(help.contains(&format!("\n  {}\n", variable.name)), "{}", variable.name);
        }
        for name in ["pull", "check", "status", "migrate", "rejected", "watermark", "schedule"] {
            let help = parsed(&format!("{name} --help")).unwrap_err().to_string();
            assert!(help.contains("Exit status:"), "{help}");
        }
    }

    #[test]
    fn help_shows_an_option_under_the_commands_that_it_applies_to() {
        for sub in command().get_subcommands() {
            let name = sub.get_name();
            let help = parsed(&format!("{name} --help")).unwrap_err().to_string();
            for variable in VARIABLES {
                let Some(option) = variable.option else {
                    continue;
                };
                assert_eq!(
                    help.contains(&format!("--{} ", option.long)),
                    option.is_for(name),
                    "{name} --{}",
                    option.long
                );
            }
        }
    }

    #[test]
    fn completions_are_printed_for_each_shell() {
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
