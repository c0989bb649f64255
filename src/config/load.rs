//! From a command line and an environment to a [`Config`]: every setting that the command needs
//! is looked at, and all that is wrong is told in one message.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sentry::types::Dsn;

use super::environment::Environment;
use super::loader::Loader;
use super::requested::FORMATS;
use super::{
    Command, Config, DatabaseConfig, Enqueue, Format, JobArgument, JobConfig, LogConfig,
    PullConfig, Reports, ScheduleConfig, ScheduleJob, Scheduler, SentryConfig, UpstreamConfig,
    addresses, values,
};
use crate::cli::{self, Cli, CycleArgs, GlobalArgs};
use crate::error::{Result, Stage};

impl Config {
    /// Validates what the command needs: flag over environment over env file over secret file.
    ///
    /// `now` is what ages and "the future" are judged by. Warnings, such as a secret that others
    /// may read, go to the log, which must be set up before.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::error::Reason::Usage) when only options are bad, else
    /// [`Configuration`](crate::error::Reason::Configuration); the message names every bad or
    /// missing setting and shows no value.
    pub fn load(cli: Cli, environment: &Environment, now: DateTime<Utc>) -> Result<Self> {
        let (config, warnings) = load_with_warnings(cli, environment, now);
        for warning in warnings {
            log::warn!(stage = Stage::Prepare.as_str(); "{warning}");
        }
        config
    }
}

fn load_with_warnings(
    cli: Cli,
    environment: &Environment,
    now: DateTime<Utc>,
) -> (Result<Config>, Vec<String>) {
    let mut loader = Loader::new(environment, now);
    loader.sources(matches!(cli.command, Some(cli::Command::Schedule { .. })));
    let log = loader.log(&cli);
    let command = loader.command(cli);
    let warnings = std::mem::take(&mut loader.warnings);
    let config = match (command, log) {
        (Some(command), Some(log)) if loader.is_content() => Ok(Config { command, log }),
        _ => Err(loader.into_failure()),
    };
    (config, warnings)
}

/// Finds who hears of a cycle that cannot start. What is not understood is passed over: the failure
/// names it.
pub(super) fn reports(environment: &Environment, metrics_file: Option<&OsStr>) -> Reports {
    let mut loader = Loader::new(environment, DateTime::UNIX_EPOCH);
    let http = loader.allow_http() && loader.is_content();
    loader.reports(http, metrics_file)
}

impl Loader<'_> {
    fn log(&mut self, cli: &Cli) -> Option<LogConfig> {
        let option = cli.global.log_format.as_deref();
        let format = self.text("DATAPASS_LOG_FORMAT", option, format);
        Some(LogConfig {
            format: format?,
            ..super::log_config(cli, self.environment)
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
            Some(cli::Command::Migrate { print: true, .. }) => Command::MigratePrint,
            Some(cli::Command::Migrate { print: false, yes }) => {
                let (database, format) = (self.database(), self.format(&global));
                Command::Migrate {
                    database: database?,
                    yes,
                    format: format?,
                }
            }
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
                // Whatever a public id is like, blanks included, it can be named.
                let id = self.only_option("ID", trimmed(&id).map(|_| id));
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
            Some(cli::Command::Schedule { scheduler }) => {
                Command::Schedule(Box::new(self.schedule(&global, scheduler)?))
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
        let reports = self.reports(http, args.metrics_file.as_deref());
        let format = self.format(global);
        let page_size = self.number("DATAPASS_PAGE_SIZE", &args.page_size, 1, 1_000);
        let concurrency = self.number("DATAPASS_CONCURRENCY", &args.concurrency, 1, 4);
        let lookback = self.text("DATAPASS_LOOKBACK", args.lookback.as_deref(), |text| {
            values::age(text, Duration::from_secs(60), "1m")
        });
        let timeout = self.timeout(global);
        let max_retries = self.number("DATAPASS_MAX_RETRIES", &args.max_retries, 0, 100);
        Some(PullConfig {
            upstream: upstream?,
            database: database?,
            job: job?,
            // A dry run writes nothing, anywhere.
            reports: if args.dry_run {
                Reports::default()
            } else {
                reports
            },
            since: since.flatten(),
            dry_run: args.dry_run,
            format: format?,
            quiet: args.quiet,
            page_size: page_size?,
            concurrency: usize::try_from(concurrency?).ok()?,
            lookback: lookback?,
            timeout: timeout?,
            max_retries: max_retries?,
        })
    }

    fn upstream(&mut self, http: bool) -> Option<UpstreamConfig> {
        let auth_url = self.required("DATAPASS_AUTH_URL", |text| addresses::web_url(text, http));
        let base_url = self.required("DATAPASS_API_BASE_URL", |text| {
            addresses::base_url(text, http)
        });
        let client_id = self.required("DATAPASS_CLIENT_ID", |text| values::plain(text, 4_096));
        let client_secret = self.secret(
            "DATAPASS_CLIENT_SECRET",
            "DATAPASS_CLIENT_SECRET_FILE",
            |text| values::plain(text, usize::MAX).map(SecretString::from),
        );
        let http = self.http(&[auth_url.as_ref(), base_url.as_ref()]);
        let definition_id = self.definition_id();
        Some(UpstreamConfig {
            auth_url: auth_url?,
            api_base_url: base_url?,
            client_id: client_id?,
            client_secret: client_secret?,
            http: http?,
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
        let url = self.secret("DATABASE_URL", "DATABASE_URL_FILE", addresses::database_url)?;
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

    fn reports(&mut self, http: bool, metrics_file: Option<&OsStr>) -> Reports {
        let writable = |path: &OsStr| values::writable_file(path.into());
        Reports {
            sentry: self.sentry(http),
            metrics_file: self.setting("DATAPASS_METRICS_FILE", metrics_file, writable),
        }
    }

    fn sentry(&mut self, http: bool) -> Option<SentryConfig> {
        let dsn = self.text("SENTRY_DSN", None, |text| addresses::sentry_dsn(text, http));
        let environment = self.text("SENTRY_ENVIRONMENT", None, |text| values::plain(text, 64));
        let url = dsn.as_ref()?.parse::<Dsn>().ok()?.envelope_api_url();
        Some(SentryConfig {
            dsn: SecretString::from(dsn?),
            environment: environment?,
            http: self.http(&[Some(&url)])?,
        })
    }

    fn schedule(
        &mut self,
        global: &GlobalArgs,
        scheduler: cli::Scheduler,
    ) -> Option<ScheduleConfig> {
        let mut retry_for = None;
        let scheduler = match scheduler {
            cli::Scheduler::Crontab { retry_for: text } => {
                retry_for = text.filter(|text| !text.is_empty()).and_then(|text| {
                    let age = values::age(&text, Duration::from_secs(1), "1s");
                    self.only_option("--retry-for", age)
                });
                Some(Scheduler::Crontab)
            }
            cli::Scheduler::Systemd => Some(Scheduler::Systemd),
            cli::Scheduler::Kubernetes {
                image,
                name,
                job,
                since,
            } => {
                let image = self.only_option("--image", values::image(&image));
                let name = self.only_option("--name", values::kubernetes_name(&name));
                let since = since.filter(|text| !text.is_empty());
                let job = self.only_option("--since", schedule_job(job, since, self.now));
                image
                    .zip(name)
                    .zip(job)
                    .map(|((image, name), job)| Scheduler::Kubernetes { image, name, job })
            }
        };
        let cron = self.text("DATAPASS_PULL_CRON", None, |text| {
            values::plain(text, 200)?.parse()
        });
        let timeout = self.timeout(global);
        let env_file = global.env_file.as_ref().filter(|path| !path.is_empty());
        Some(ScheduleConfig {
            scheduler: scheduler?,
            cron: cron?,
            env_file: env_file.map(PathBuf::from),
            timeout: timeout?,
            retry_for,
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

fn schedule_job(
    job: Option<cli::Job>,
    since: Option<String>,
    now: DateTime<Utc>,
) -> Result<Option<ScheduleJob>, String> {
    Ok(Some(match (job, since) {
        (None, None) => return Ok(None),
        (Some(cli::Job::Migrate), None) => ScheduleJob::Migrate,
        (Some(cli::Job::Replay), Some(since)) => {
            values::instant(&since, now)?;
            ScheduleJob::Replay { since }
        }
        (Some(cli::Job::Replay), None) => {
            return Err("is missing: --job replay needs it".to_owned());
        }
        (_, Some(_)) => return Err("is only for --job replay".to_owned()),
    }))
}

fn trimmed(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        Err("is blank".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
#[path = "load_tests/mod.rs"]
mod tests;
