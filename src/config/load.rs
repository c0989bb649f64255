//! From a command line and an environment to a [`Config`]: every setting that the command needs
//! is looked at, and all that is wrong is told in one message.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;

use super::environment::{self, Environment};
use super::requested::FORMATS;
use super::variables::{VARIABLES, Variable};
use super::{
    Command, Config, DatabaseConfig, Enqueue, Format, JobArgument, JobConfig, LogConfig,
    PullConfig, ScheduleConfig, Scheduler, SentryConfig, UpstreamConfig, values,
};
use crate::cli::{self, Cli, CycleArgs, GlobalArgs};
use crate::error::{Failure, Reason, Result, Stage};

/// The variables whose value is a secret: a file that holds one should be its owner's alone.
const SECRETS: &[&str] = &["DATAPASS_CLIENT_SECRET", "DATABASE_URL", "SENTRY_DSN"];

/// Variables that libraries read from the process itself; in an env file they do nothing.
const PROCESS_ONLY: &[&str] = &[
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

impl Config {
    /// Validates what the command needs: flag over environment over env file over secret file.
    ///
    /// `now` is what ages and "the future" are judged by. Warnings, such as a secret that others
    /// may read, go to the log, which must be set up before.
    ///
    /// # Errors
    ///
    /// [`Reason::Usage`] when only options are bad, else [`Reason::Configuration`]; the message
    /// names every bad or missing setting and shows no value.
    pub fn load(cli: Cli, environment: &Environment, now: DateTime<Utc>) -> Result<Self> {
        let (config, warnings) = load_with_warnings(cli, environment, now);
        for warning in warnings {
            log::warn!("{warning}");
        }
        config
    }
}

fn load_with_warnings(
    cli: Cli,
    environment: &Environment,
    now: DateTime<Utc>,
) -> (Result<Config>, Vec<String>) {
    let mut loader = Loader {
        environment,
        now,
        problems: vec![],
        warnings: vec![],
    };
    loader.sources(matches!(cli.command, Some(cli::Command::Schedule { .. })));
    let log = loader.log(&cli.global);
    let command = loader.command(cli);
    let Loader {
        mut problems,
        warnings,
        ..
    } = loader;
    let config = match (command, log) {
        (Some(command), Some(log)) if problems.is_empty() => Ok(Config { command, log }),
        _ => {
            problems.sort_by_key(|problem| problem.rank);
            let is_usage = problems.iter().all(|problem| problem.from_option);
            let reason = if is_usage {
                Reason::Usage
            } else {
                Reason::Configuration
            };
            let texts: Vec<String> = problems.into_iter().map(|problem| problem.text).collect();
            let message = format!("Missing or bad settings: {}", texts.join("; "));
            Err(Failure::new(Stage::Prepare, reason, message))
        }
    };
    (config, warnings)
}

/// One thing that is wrong.
struct Problem {
    /// Where the setting stands in the documentation; what is only an option comes first.
    rank: usize,
    from_option: bool,
    text: String,
}

/// Looks at one setting after the other, and keeps what is wrong instead of stopping at it.
struct Loader<'a> {
    environment: &'a Environment,
    now: DateTime<Utc>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Loader<'_> {
    fn problem(&mut self, name: &str, from_option: bool, text: String) {
        let rank = VARIABLES.iter().position(|variable| variable.name == name);
        let rank = rank.map_or(0, |position| position + 1);
        self.problems.push(Problem {
            rank,
            from_option,
            text,
        });
    }

    fn missing(&mut self, name: &str, detail: String) {
        let help =
            Variable::find(name).map_or_else(String::new, |variable| lower_first(variable.help));
        self.problem(
            name,
            false,
            format!("{name} is not set{detail} (expected: {help})"),
        );
    }

    /// Judges an option that has no variable.
    fn only_option<T>(&mut self, option: &str, value: Result<T, String>) -> Option<T> {
        value
            .map_err(|problem| self.problem("", true, format!("{option} {problem}")))
            .ok()
    }

    /// Judges a setting: its option, its variable, or its default; none when there is none.
    fn setting<T>(
        &mut self,
        name: &'static str,
        option: Option<&OsStr>,
        parse: impl FnOnce(&OsStr) -> Result<T, String>,
    ) -> Option<T> {
        let variable = Variable::find(name)?;
        let (place, from_option, value) = match option.filter(|value| !value.is_empty()) {
            Some(value) => (variable.option.unwrap_or(name).to_owned(), true, value),
            None => match self.environment.find(name) {
                Some(found) => (place(name, found.file), false, found.value),
                None => (name.to_owned(), false, OsStr::new(variable.default?)),
            },
        };
        parse(value)
            .map_err(|problem| self.problem(name, from_option, format!("{place} {problem}")))
            .ok()
    }

    /// Judges a setting that is a text.
    fn text<T>(
        &mut self,
        name: &'static str,
        option: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.setting(name, option.map(OsStr::new), |value| parse(utf8(value)?))
    }

    /// Judges a text that must be there.
    fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.environment.find(name).is_none() {
            self.missing(name, String::new());
            return None;
        }
        self.text(name, None, parse)
    }

    /// Judges a secret: the variable, else the file that `file_name` names, else a credential.
    fn secret(
        &mut self,
        name: &'static str,
        file_name: &'static str,
        parse: impl FnOnce(&str) -> Result<String, String>,
    ) -> Option<SecretString> {
        let environment = self.environment;
        let file = environment.find(file_name);
        let credentials = environment.find("CREDENTIALS_DIRECTORY");
        let (place, read) = match (environment.find(name), file, credentials) {
            (Some(_), Some(_), _) => {
                let text = format!("{name} and {file_name} are both set, use one");
                self.problem(name, false, text);
                return None;
            }
            (Some(found), None, _) => (
                place(name, found.file),
                utf8(found.value).map(|text| Some(text.to_owned())),
            ),
            (None, Some(found), _) => {
                let place = place(file_name, found.file);
                let path = Path::new(found.value);
                let read = self.secret_file(path, &place).and_then(|text| match text {
                    None => Err("names a file that does not exist".to_owned()),
                    text => Ok(text),
                });
                (place, read)
            }
            (None, None, Some(found)) => {
                let place = format!("The credential {name}");
                let path = Path::new(found.value).join(name);
                let read = self.secret_file(&path, &place);
                (place, read)
            }
            (None, None, None) => (name.to_owned(), Ok(None)),
        };
        match read.and_then(|text| text.map(|text| parse(&text)).transpose()) {
            Ok(Some(text)) => Some(SecretString::from(text)),
            Ok(None) => {
                self.missing(name, format!(", neither is {file_name}"));
                None
            }
            Err(problem) => {
                self.problem(name, false, format!("{place} {problem}"));
                None
            }
        }
    }

    fn secret_file(&mut self, path: &Path, place: &str) -> Result<Option<String>, String> {
        let Some(secret) = environment::read_secret(path)? else {
            return Ok(None);
        };
        if let Some(mode) = secret.open_mode {
            self.warnings.push(format!(
                "{place}: the file may be used by every user (mode {mode:04o}): chmod o-rwx it"
            ));
        }
        Ok(Some(secret.text))
    }

    /// Judges the env file and the names that are set.
    ///
    /// An entry for a scheduler may name an env file that is not there yet, or not for us.
    fn sources(&mut self, env_file_may_be_missing: bool) {
        let environment = self.environment;
        if let Some(error) = environment.file_open_error() {
            let text = format!("--env-file {error}");
            if env_file_may_be_missing {
                self.warnings.push(text);
            } else {
                self.problem("", true, text);
            }
        }
        for line in environment.file_bad_lines() {
            self.problem("", false, format!("--env-file {line}"));
        }
        if let Some((path, mode)) = environment.file_open_to_others(SECRETS) {
            self.warnings.push(format!(
                "--env-file {path:?} holds a secret and may be used by every user \
                 (mode {mode:04o}): chmod o-rwx it"
            ));
        }
        let is_unknown =
            |name: &&str| name.starts_with("DATAPASS_") && Variable::find(name).is_none();
        let unknown: Vec<&str> = environment.names().into_iter().filter(is_unknown).collect();
        if !unknown.is_empty() {
            let names = unknown.join(", ");
            self.warnings
                .push(format!("Unknown variables, perhaps misspelled: {names}"));
        }
        let without_effect: BTreeSet<&str> = environment
            .file_names()
            .filter(|name| PROCESS_ONLY.contains(name))
            .collect();
        for name in without_effect {
            self.warnings.push(format!(
                "{name} has no effect in --env-file: set it in the environment itself"
            ));
        }
    }

    fn log(&mut self, args: &GlobalArgs) -> Option<LogConfig> {
        let format = self.text("DATAPASS_LOG_FORMAT", args.log_format.as_deref(), format);
        Some(LogConfig {
            format: format?,
            ..super::log_config(args, self.environment)
        })
    }

    fn command(&mut self, cli: Cli) -> Option<Command> {
        let Cli {
            global,
            cycle,
            command,
        } = cli;
        Some(match command {
            None | Some(cli::Command::Pull(_)) => {
                Command::Pull(Box::new(self.pull(&global, &cycle)?))
            }
            Some(cli::Command::Check(_)) => Command::Check(Box::new(self.pull(&global, &cycle)?)),
            Some(cli::Command::Status) => {
                let (database, job) = (self.database(), self.job(&global));
                let format = self.format(&global);
                Command::Status {
                    database: database?,
                    job: job?,
                    format: format?,
                }
            }
            Some(cli::Command::Migrate { print: true, yes }) => Command::Migrate {
                database: None,
                print: true,
                yes,
            },
            Some(cli::Command::Migrate { print: false, yes }) => Command::Migrate {
                database: Some(self.database()?),
                print: false,
                yes,
            },
            Some(cli::Command::Rejected {
                action: cli::Rejected::List,
            }) => {
                let (database, format) = (self.database(), self.format(&global));
                Command::RejectedList {
                    database: database?,
                    format: format?,
                }
            }
            Some(cli::Command::Rejected {
                action: cli::Rejected::Accept { id, reason },
            }) => {
                let id = self.only_option("ID", trimmed(&id));
                let reason = self.only_option("--reason", trimmed(&reason));
                let database = self.database();
                Command::RejectedAccept {
                    database: database?,
                    id: id?,
                    reason: reason?,
                }
            }
            Some(cli::Command::Watermark {
                action: cli::Watermark::Set { time, yes },
            }) => {
                let time = self.only_option("TIME", values::instant(&time, self.now));
                let (database, definition_id) = (self.database(), self.definition_id());
                Command::WatermarkSet {
                    database: database?,
                    definition_id: definition_id?,
                    time: time?,
                    yes,
                }
            }
            Some(cli::Command::Watermark {
                action: cli::Watermark::Reset { yes },
            }) => Command::WatermarkReset {
                database: self.database()?,
                yes,
            },
            Some(cli::Command::Schedule { scheduler, image }) => {
                Command::Schedule(self.schedule(&global, scheduler, image)?)
            }
            Some(cli::Command::Completions { shell }) => Command::Completions(shell),
        })
    }

    fn pull(&mut self, global: &GlobalArgs, args: &CycleArgs) -> Option<PullConfig> {
        let now = self.now;
        let since = args.since.as_deref().filter(|text| !text.is_empty());
        let since = since.map(|text| self.only_option("--since", values::instant(text, now)));
        let http = self.allow_http();
        let upstream = self.upstream(http);
        let database = self.database();
        let job = self.job(global);
        let sentry = self.sentry(http);
        let format = self.format(global);
        let page_size = self.number("DATAPASS_PAGE_SIZE", &args.page_size, 1, 1_000);
        let concurrency = self.number("DATAPASS_CONCURRENCY", &args.concurrency, 1, 4);
        let lookback = self.text("DATAPASS_LOOKBACK", args.lookback.as_deref(), |text| {
            values::age(text, Duration::from_secs(60), "1m")
        });
        let timeout = self.timeout(global);
        let max_retries = self.number("DATAPASS_MAX_RETRIES", &args.max_retries, 0, 100);
        let metrics_file = self.setting(
            "DATAPASS_METRICS_FILE",
            args.metrics_file.as_deref(),
            |path| values::writable_file(path.into()),
        );
        Some(PullConfig {
            upstream: upstream?,
            database: database?,
            job: job?,
            sentry,
            since: since.flatten(),
            dry_run: args.dry_run,
            format: format?,
            quiet: args.quiet,
            page_size: page_size?,
            concurrency: usize::try_from(concurrency?).ok()?,
            lookback: lookback?,
            timeout: timeout?,
            max_retries: max_retries?,
            metrics_file,
        })
    }

    fn upstream(&mut self, http: bool) -> Option<UpstreamConfig> {
        let auth_url = self.required("DATAPASS_AUTH_URL", |text| values::auth_url(text, http));
        let base_url = self.required("DATAPASS_API_BASE_URL", |text| values::base_url(text, http));
        let client_id = self.required("DATAPASS_CLIENT_ID", |text| values::plain(text, 4_096));
        let client_secret = self.secret(
            "DATAPASS_CLIENT_SECRET",
            "DATAPASS_CLIENT_SECRET_FILE",
            |text| values::plain(text, usize::MAX),
        );
        let ca_file = self.setting("DATAPASS_CA_FILE", None, |path| {
            values::readable_file(PathBuf::from(path))
        });
        let definition_id = self.definition_id();
        Some(UpstreamConfig {
            auth_url: auth_url?,
            api_base_url: base_url?,
            client_id: client_id?,
            client_secret: client_secret?,
            ca_file,
            definition_id: definition_id?,
        })
    }

    fn allow_http(&mut self) -> bool {
        let words = [("1", true), ("0", false)];
        let allowed = self.text("DATAPASS_ALLOW_HTTP", None, |text| {
            values::word(text, &words)
        });
        // A bad word is told itself; telling each URL again would only bury it.
        allowed.unwrap_or(true)
    }

    fn database(&mut self) -> Option<DatabaseConfig> {
        let url = self.secret("DATABASE_URL", "DATABASE_URL_FILE", values::database_url)?;
        Some(DatabaseConfig { url })
    }

    fn definition_id(&mut self) -> Option<String> {
        self.text("DATAPASS_DEFINITION_ID", None, |text| {
            values::plain(text, 200)
        })
    }

    fn job(&mut self, global: &GlobalArgs) -> Option<JobConfig> {
        let modes = [
            ("auto", Enqueue::Auto),
            ("good_job", Enqueue::GoodJob),
            ("none", Enqueue::None),
        ];
        let enqueue = self.text("DATAPASS_ENQUEUE", global.enqueue.as_deref(), |text| {
            values::word(text, &modes)
        });
        let class = self.text("DATAPASS_JOB_CLASS", None, values::ruby_class);
        let queue = self.text("DATAPASS_JOB_QUEUE", None, |text| values::plain(text, 200));
        let app = self.text("DATAPASS_JOB_APP", None, values::global_id_app);
        let arguments = [("record", JobArgument::Record), ("id", JobArgument::Id)];
        let argument = self.text("DATAPASS_JOB_ARGUMENT", None, |text| {
            values::word(text, &arguments)
        });
        Some(JobConfig {
            enqueue: enqueue?,
            class: class?,
            queue: queue?,
            app: app?,
            argument: argument?,
        })
    }

    fn sentry(&mut self, http: bool) -> Option<SentryConfig> {
        let dsn = self.text("SENTRY_DSN", None, |text| values::sentry_dsn(text, http));
        let environment = self.text("SENTRY_ENVIRONMENT", None, |text| values::plain(text, 64));
        Some(SentryConfig {
            dsn: SecretString::from(dsn?),
            environment,
        })
    }

    fn schedule(
        &mut self,
        global: &GlobalArgs,
        scheduler: Scheduler,
        image: Option<String>,
    ) -> Option<ScheduleConfig> {
        let image = match image.filter(|text| !text.is_empty()) {
            Some(text) => self.only_option("--image", values::image(&text)),
            None if scheduler == Scheduler::Kubernetes => self.only_option(
                "--image",
                Err("is not given, and kubernetes needs it".to_owned()),
            ),
            None => None,
        };
        let cron = self.text("DATAPASS_PULL_CRON", None, |text| values::plain(text, 200));
        let timeout = self.timeout(global);
        let env_file = global.env_file.as_ref().filter(|path| !path.is_empty());
        Some(ScheduleConfig {
            scheduler,
            cron: cron?,
            image,
            env_file: env_file.map(PathBuf::from),
            timeout: timeout?,
        })
    }

    fn timeout(&mut self, global: &GlobalArgs) -> Option<Duration> {
        self.text("DATAPASS_TIMEOUT", global.timeout.as_deref(), |text| {
            values::age(text, Duration::from_secs(1), "1s")
        })
    }

    fn format(&mut self, global: &GlobalArgs) -> Option<Format> {
        self.text("DATAPASS_FORMAT", global.format.as_deref(), format)
    }

    fn number(
        &mut self,
        name: &'static str,
        option: &Option<String>,
        min: u32,
        max: u32,
    ) -> Option<u32> {
        self.text(name, option.as_deref(), |text| {
            values::number(text, min, max)
        })
    }
}

fn format(text: &str) -> Result<Format, String> {
    values::word(text, FORMATS)
}

fn trimmed(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        Err("is blank".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn utf8(value: &OsStr) -> Result<&str, String> {
    value.to_str().ok_or_else(|| "is not UTF-8".to_owned())
}

/// Makes a sentence the end of another one; names, which begin with two capitals, keep theirs.
fn lower_first(text: &str) -> String {
    match text.strip_prefix("The ") {
        Some(rest) => format!("the {rest}"),
        None => text.to_owned(),
    }
}

/// Names a variable, with the env file that it is from.
fn place(name: &str, file: Option<&Path>) -> String {
    match file {
        Some(path) => format!("{name} (in {path:?})"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
