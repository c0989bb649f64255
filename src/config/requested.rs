//! What must be known before, or without, a valid configuration: how to log, whether and in which
//! form a summary line is due, and who hears of a cycle that cannot start.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};

use super::load::reports;
use super::{Environment, Format, LogConfig, Reports, values};
use crate::cli::{self, Cli};

/// The words of both formats.
pub(super) const FORMATS: &[(&str, Format)] = &[("text", Format::Text), ("json", Format::Json)];

/// What is due at the end of a command line that cannot be run.
#[derive(Debug, Default)]
pub struct Requested {
    /// The form that was asked for, text when the wish is not understood.
    pub format: Format,
    /// Whether a cycle was meant, which always ends with a summary line.
    pub is_cycle: bool,
    /// Whether it was to write nothing.
    pub dry_run: bool,
    /// Who else is to hear of it: nobody unless a cycle was meant that may write.
    pub reports: Reports,
}

/// Tells what is due for a command line that clap understood.
pub fn requested(cli: &Cli, environment: &Environment) -> Requested {
    let cycle = cli.is_cycle().then_some(&cli.cycle);
    let wants_reports = cycle.is_some_and(|cycle| !cycle.dry_run);
    let reports = || reports(environment, cli.cycle.metrics_file.as_deref());
    Requested {
        format: lenient_format("DATAPASS_FORMAT", cli.global.format.as_deref(), environment),
        is_cycle: cycle.is_some(),
        dry_run: cli.cycle.dry_run,
        reports: wants_reports.then(reports).unwrap_or_default(),
    }
}

/// Tells what is due for a command line that clap refused.
///
/// `args` begins with the program's name. It is a cycle when its first word that is neither an
/// option nor an option's value is no other command; the last one of an option counts.
pub fn requested_by_refused(args: &[OsString], environment: Environment) -> Requested {
    let command = cli::command();
    let takes_value = |option: &str| {
        let long = option.strip_prefix("--");
        command
            .get_arguments()
            .any(|arg| arg.get_long() == long && arg.get_action().takes_values())
    };
    let mut values = HashMap::new();
    let mut word = None;
    let mut dry_run = false;
    // What is not UTF-8 is no option of ours, and no file is written under another name.
    let mut args = args
        .iter()
        .skip(1)
        .map(|arg| arg.to_str().unwrap_or_default());
    while let Some(arg) = args.next() {
        match arg.split_once('=') {
            _ if arg == "--" => break,
            _ if arg == "--dry-run" => dry_run = true,
            Some((option, value)) if takes_value(option) => {
                values.insert(option, value);
            }
            None if arg.starts_with("--") && takes_value(arg) => {
                values.insert(arg, args.next().unwrap_or_default());
            }
            _ if arg.starts_with('-') => {}
            _ => {
                word.get_or_insert(arg);
            }
        }
    }
    let is_other = |word: &str| {
        word == "help"
            || command
                .find_subcommand(word)
                .is_some_and(|found| found.get_name() != "pull")
    };
    let is_cycle = !word.is_some_and(is_other);
    let option = |name: &str| values.get(name).copied();
    let environment = environment.with_file(option("--env-file").map(OsStr::new));
    let reports = || reports(&environment, option("--metrics-file").map(OsStr::new));
    Requested {
        format: lenient_format("DATAPASS_FORMAT", option("--format"), &environment),
        is_cycle,
        dry_run,
        reports: (is_cycle && !dry_run).then(reports).unwrap_or_default(),
    }
}

/// Tells how to log, before anything is validated: a form that is not understood is text here, and
/// a problem that [`super::Config::load`] names.
pub fn log_config(cli: &Cli, environment: &Environment) -> LogConfig {
    let args = &cli.global;
    let rust_log = environment
        .find("RUST_LOG")
        .and_then(|found| found.value.to_str());
    LogConfig {
        verbosity: args.verbose,
        quiet: cli.cycle.quiet,
        rust_log: rust_log.map(str::to_owned),
        format: lenient_format(
            "DATAPASS_LOG_FORMAT",
            args.log_format.as_deref(),
            environment,
        ),
    }
}

fn lenient_format(name: &str, option: Option<&str>, environment: &Environment) -> Format {
    let variable = environment
        .find(name)
        .and_then(|found| found.value.to_str());
    let text = option.filter(|text| !text.is_empty()).or(variable);
    text.and_then(|text| values::word(text, FORMATS).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::new(
            pairs
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
        )
    }

    fn args(line: &str) -> Vec<OsString> {
        std::iter::once("datapass-pull")
            .chain(line.split_whitespace())
            .map(OsString::from)
            .collect()
    }

    #[test]
    fn a_refused_command_line_still_tells_what_it_wanted() {
        use Format::{Json, Text};
        let cases = [
            ("", "", Text, true),
            ("", "json", Json, true),
            ("", "xml", Text, true),
            ("--frobnicate", "", Text, true),
            ("--format json --frobnicate", "", Json, true),
            ("--frobnicate --format=json", "text", Json, true),
            ("--format= --frobnicate", "json", Json, true),
            ("--format json --format text --oops", "", Text, true),
            ("--format xml --oops", "json", Text, true),
            ("--format", "json", Json, true),
            ("pull --oops --format json", "", Json, true),
            ("pull status", "", Text, true),
            ("puul", "", Text, true),
            ("--since status --oops", "", Text, true),
            ("--since=7d status", "", Text, false),
            ("-vq status --format json --oops", "", Json, false),
            (
                "--env-file e --timeout 1m check --oops",
                "json",
                Json,
                false,
            ),
            ("--log-format json watermark", "", Text, false),
            ("rejected accept", "", Text, false),
            ("schedule launchd", "", Text, false),
            ("help frobnicate", "", Text, false),
            ("-- status --format json", "", Text, true),
        ];
        for (line, variable, format, is_cycle) in cases {
            let environment = environment(&[("DATAPASS_FORMAT", variable)]);
            let requested = requested_by_refused(&args(line), environment);
            let told = (requested.format, requested.is_cycle);
            assert_eq!(told, (format, is_cycle), "{line}");
        }
        assert!(requested_by_refused(&[], environment(&[])).is_cycle);
    }

    #[test]
    fn an_understood_command_line_is_asked_itself() {
        let environment = environment(&[("DATAPASS_FORMAT", "json"), ("RUST_LOG", "debug")]);
        let cases = [
            ("", Format::Json, true),
            ("--format text", Format::Text, true),
            ("pull --format=", Format::Json, true),
            ("status", Format::Json, false),
        ];
        for (line, format, is_cycle) in cases {
            let cli = cli::parse(args(line).into_iter()).unwrap();
            let requested = requested(&cli, &environment);
            let told = (requested.format, requested.is_cycle);
            assert_eq!(told, (format, is_cycle), "{line}");
        }
        let cli = cli::parse(args("-vv --log-format json").into_iter()).unwrap();
        let log = log_config(&cli, &environment);
        assert_eq!((log.verbosity, log.rust_log.as_deref()), (2, Some("debug")));
        assert_eq!(log.format, Format::Json);
    }
}
