//! Reading a command line: options of a cycle wherever they stand, and refusals without settings.

use std::ffi::OsString;

use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Cli, Command, CycleArgs, command};

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
        // A tip would say it again.
        error.remove(ContextKind::Suggested);
    }
    error
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli) fn parsed(args: &str) -> Result<Cli, clap::Error> {
        parse(
            std::iter::once("datapass-pull")
                .chain(args.split_whitespace())
                .map(OsString::from),
        )
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
}
