//! Reads a command line, and what is known of one that is refused.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, FromArgMatches};

use super::{Cli, Command, Options, PullArgs, Root, command, options};

/// Reads the command line, the program's name first.
///
/// # Errors
///
/// clap's own error, which also carries `--help` and `--version`. No secret is an option, and a URL
/// or a setting typed where none belongs is not repeated: it may hold a password.
pub fn parse(args: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches =
        command.try_get_matches_from_mut(command_first(args.to_vec())).map_err(without_settings)?;
    let root = Root::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok(Cli {
        command: root.command.unwrap_or(Command::Pull(root.pull)),
        options: innermost(&matches),
    })
}

/// Returns the options of a refused command line as far as they are known, and those of `pull` when
/// a cycle was meant.
///
/// Unknown options and commands are skipped; what follows another error is lost.
pub fn parse_refused(args: &[OsString]) -> (Option<PullArgs>, Options) {
    let mut args = command_first(args.to_vec());
    while let Some(at) = unknown_word(&args) {
        args.remove(at);
        args = command_first(args);
    }
    // clap makes no matches for `help`, which is a command of its own.
    let is_help = args.get(1).is_some_and(|word| word == "help");
    let matches = without_help().ignore_errors(true).try_get_matches_from(args).unwrap_or_default();
    let is_cycle = !is_help && matches!(matches.subcommand_name(), None | Some("pull"));
    let options = innermost(&matches);
    let pull = is_cycle.then(|| PullArgs::from_arg_matches(&options.0).unwrap_or_default());
    (pull, options)
}

/// Returns the definition of the command line without --help and --version: in a refused command line
/// they would hide the error.
fn without_help() -> clap::Command {
    command().disable_help_flag(true).disable_version_flag(true)
}

/// Returns where the option or command is that the command line is refused for; none when it is
/// refused for another reason.
fn unknown_word(args: &[OsString]) -> Option<usize> {
    let error = without_help().try_get_matches_from(args).err()?;
    let kind = match error.kind() {
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        _ => return None,
    };
    let ContextValue::String(name) = error.get(kind)? else { return None };
    let is_it = |arg: &OsString| arg.to_str().and_then(|arg| arg.split('=').next()) == Some(name);
    Some(args.iter().skip(1).position(is_it)? + 1)
}

/// Moves the options that stand before a command's name behind it, so that the command takes or
/// refuses them. Its name is the first word that is no option of a cycle and no value of one.
fn command_first(mut args: Vec<OsString>) -> Vec<OsString> {
    let scan = clap::Command::new("datapass-pull")
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .args_override_self(true)
        .allow_external_subcommands(true)
        .ignore_errors(true)
        .args(options("pull"));
    let matches = PullArgs::augment_args(scan).get_matches_from(&args);
    if let Some((_, command)) = matches.subcommand() {
        let behind = command.get_raw("").map_or(0, |words| words.len());
        let end = args.len().saturating_sub(behind);
        if let Some(through_name) = args.get_mut(1..end) {
            through_name.rotate_right(1);
        }
    }
    args
}

fn innermost(mut matches: &clap::ArgMatches) -> Options {
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    Options(matches.clone())
}

/// Takes URLs and `NAME=value` out of what clap repeats of a refused command line.
fn without_settings(mut error: clap::Error) -> clap::Error {
    let repeated =
        [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue];
    for kind in repeated {
        let value = error.get(kind).map(ToString::to_string);
        let shown = match value.unwrap_or_default() {
            value if value.contains("://") => "a URL",
            value if value.contains('=') => "a setting",
            _ => continue,
        };
        error.insert(kind, ContextValue::String(shown.to_owned()));
        // A tip would repeat it.
        error.remove(ContextKind::Suggested);
    }
    error
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn words(args: &str) -> Vec<OsString> {
        std::iter::once("datapass-pull")
            .chain(args.split_whitespace())
            .map(OsString::from)
            .collect()
    }

    pub(in crate::cli) fn parsed(args: &str) -> Result<Cli, clap::Error> {
        parse(&words(args))
    }

    fn value<'a>(options: &'a Options, long: &str) -> Option<&'a str> {
        options.value(long).and_then(|value| value.to_str())
    }

    #[test]
    fn options_of_a_cycle_are_accepted_with_and_without_pull() {
        let given = "--page-size 5 --concurrency 1 --max-retries 0 --metrics-file m --timeout 1m \
                     --retry-for 2h --enqueue none --format json --log-format json --env-file e -vv";
        let (before, after) = given.split_at(given.find("--timeout").unwrap());
        for args in [
            given.to_owned(),
            format!("pull {given}"),
            format!("{given} pull"),
            format!("{before} pull {after}"),
            format!("{given} check"),
            format!("{before} check {after}"),
        ] {
            let cli = parsed(&args).unwrap();
            for (long, expected) in [
                ("page-size", "5"),
                ("concurrency", "1"),
                ("max-retries", "0"),
                ("metrics-file", "m"),
                ("timeout", "1m"),
                ("retry-for", "2h"),
                ("enqueue", "none"),
                ("format", "json"),
                ("log-format", "json"),
                ("env-file", "e"),
            ] {
                assert_eq!(value(&cli.options, long), Some(expected), "{args}");
            }
            assert_eq!(cli.options.verbosity(), 2, "{args}");
            let is_cycle = matches!(cli.command, Command::Pull(_));
            assert_eq!(is_cycle, !args.contains("check"), "{args}");
        }
        for args in [
            "--since 7d --dry-run -q",
            "pull --since 7d -q --dry-run",
            "--since 7d pull -q --dry-run",
            "-q --dry-run --since=7d pull",
        ] {
            let Command::Pull(pull) = parsed(args).unwrap().command else { panic!("{args}") };
            assert_eq!(pull.since.as_deref(), Some("7d"), "{args}");
            assert!(pull.dry_run && pull.quiet, "{args}");
        }
    }

    #[test]
    fn an_option_may_precede_or_follow_its_command() {
        for (options, commands) in [
            (
                "-v --log-format json --env-file e --format json",
                &[
                    "check",
                    "status",
                    "migrate",
                    "rejected list",
                    "rejected accept 5 --reason x",
                    "watermark set 1d",
                    "watermark reset",
                ][..],
            ),
            (
                "-v --log-format json --env-file e --timeout 1m",
                &["schedule systemd", "schedule crontab --retry-for 1h"],
            ),
        ] {
            for command in commands {
                let (first, rest) = command.split_once(' ').unwrap_or((command, ""));
                for args in [
                    format!("{options} {command}"),
                    format!("{first} {options} {rest}"),
                    format!("{command} {options}"),
                ] {
                    let options = parsed(&args).unwrap().options;
                    assert_eq!(options.verbosity(), 1, "{args}");
                    assert_eq!(value(&options, "log-format"), Some("json"), "{args}");
                    assert_eq!(value(&options, "env-file"), Some("e"), "{args}");
                    let format = args.contains("--format").then_some("json");
                    assert_eq!(value(&options, "format"), format, "{args}");
                    assert_eq!(options.has("format"), format.is_some(), "{args}");
                }
            }
        }
    }

    #[test]
    fn an_option_that_would_be_ignored_is_refused() {
        for (option, commands) in [
            ("--since 7d", "check status migrate rejected|list watermark|reset completions|bash"),
            ("--dry-run", "check status migrate watermark|reset schedule|systemd"),
            ("-q", "check status migrate watermark|reset"),
            ("--page-size 5", "status migrate rejected|list schedule|systemd"),
            ("--max-retries 5", "status migrate schedule|systemd"),
            ("--metrics-file m", "status migrate schedule|systemd"),
            ("--timeout 5m", "status migrate rejected|list completions|bash"),
            ("--retry-for 5m", "status migrate rejected|list"),
            ("--enqueue none", "migrate rejected|list schedule|systemd"),
            ("--format json", "schedule|systemd completions|bash"),
            ("-v", "completions|bash"),
            ("--env-file e", "completions|bash"),
        ] {
            let name = option.split(' ').next().unwrap();
            for command in commands.split_whitespace() {
                let command = command.replace('|', " ");
                for args in [format!("{option} {command}"), format!("{command} {option}")] {
                    let error = parsed(&args).unwrap_err();
                    assert!(error.use_stderr(), "{args}");
                    let expected = format!("unexpected argument '{name}'");
                    assert!(error.to_string().contains(&expected), "{args}: {error}");
                }
            }
        }
        for args in ["migrate --print --yes", "migrate --print --format json"] {
            assert!(parsed(args).unwrap_err().use_stderr(), "{args}");
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
            let Command::Pull(pull) = parsed(args).unwrap().command else { panic!("{args}") };
            assert_eq!(pull.since.as_deref(), since, "{args}");
        }
        let cases = [
            ("--format text --format json", Some("json")),
            ("--format text status --format json", Some("json")),
            ("--format text rejected --format json list", Some("json")),
            ("status --format=", None),
        ];
        for (args, format) in cases {
            let options = parsed(args).unwrap().options;
            assert_eq!(value(&options, "format"), format, "{args}");
        }
        assert_eq!(parsed("-v -vv").unwrap().options.verbosity(), 3);
    }

    #[test]
    fn a_value_may_be_any_bytes() {
        let value = OsString::from_vec(vec![b'x', 0xff]);
        for long in ["page-size", "format", "env-file"] {
            let args = ["datapass-pull".into(), format!("--{long}").into(), value.clone()];
            assert_eq!(parse(&args).unwrap().options.value(long), Some(&*value), "{long}");
        }
    }

    #[test]
    fn an_invalid_command_line_is_refused_without_its_values() {
        for args in [
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
            "schedule kubernetes",
            "schedule kubernetes --image i --retry-for 1h",
            "schedule systemd --image i",
            "schedule crontab --name n",
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
            "schedule --postgres://u:hunter2@h/d",
            "rejected accept 5 --postgres://u:hunter2@h/d",
            "--format json postgres://u:hunter2@h/d",
        ] {
            let error = parsed(args).unwrap_err();
            assert!(error.use_stderr(), "{args}");
            assert!(!error.to_string().contains("hunter2"), "{args}: {error}");
        }
    }

    #[test]
    fn a_refused_command_line_still_has_its_command_and_known_options() {
        let cases = [
            ("--frobnicate", None, true),
            ("--format json --frobnicate", Some("json"), true),
            ("--frobnicate --format=json", Some("json"), true),
            ("--frobnicate=5 --oops --format json", Some("json"), true),
            ("--format= --frobnicate", None, true),
            ("--format json --format text --oops", Some("text"), true),
            ("--format", None, true),
            ("pull --oops --format json", Some("json"), true),
            ("--format json pull --oops", Some("json"), true),
            ("pull status", None, true),
            ("puul", None, true),
            ("puul --format json", Some("json"), true),
            ("--format json puul", Some("json"), true),
            ("--since puul puul --format json", Some("json"), true),
            ("--since status --oops", None, true),
            ("--dry-run status", None, false),
            ("--max-retries 0 status", None, false),
            ("--oops status", None, false),
            ("-vq status --format json --oops", None, false),
            ("--env-file e --timeout 1m check --oops", None, false),
            ("--log-format json watermark", None, false),
            ("rejected accept", None, false),
            ("rejected acept 5 --format json", Some("json"), false),
            ("schedule launchd", None, false),
            ("help frobnicate", None, false),
            ("--oops --help --format json", Some("json"), true),
            ("--oops -V", None, true),
            ("status --oops -h --format json", Some("json"), false),
            ("--oops help", None, false),
        ];
        for (args, format, is_cycle) in cases {
            let (pull, options) = parse_refused(&words(args));
            assert_eq!(pull.is_some(), is_cycle, "{args}");
            assert_eq!(value(&options, "format"), format, "{args}");
        }
        for (args, dry_run) in
            [("--dry-run --oops", true), ("pull --oops --dry-run", true), ("--oops", false)]
        {
            let (pull, options) = parse_refused(&words(&format!("--env-file e {args}")));
            assert_eq!(pull.unwrap().dry_run, dry_run, "{args}");
            assert_eq!(value(&options, "env-file"), Some("e"), "{args}");
        }
        assert!(parse_refused(&[]).0.is_some());
    }
}
