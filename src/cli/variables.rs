//! Every environment variable and its option, from which help, template and manual follow.

/// One environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The option that wins over it.
    pub option: Option<CliOption>,
    /// The value of an absent one; validated like any other.
    pub default: Option<&'static str>,
    /// Whether a cycle needs it and has no default for it.
    pub required: bool,
    /// Whether its value is never shown; it may come from a file instead.
    pub secret: bool,
    /// What it is, in one line.
    pub help: &'static str,
}

/// The option of a variable.
#[derive(Debug, Clone, Copy)]
pub struct CliOption {
    /// Its name, without hyphens.
    pub long: &'static str,
    /// The name of its value, or the words it may be, as in `text|json`.
    pub value: &'static str,
    commands: &'static str,
}

impl CliOption {
    /// Whether it applies to a command.
    pub fn is_for(&self, command: &str) -> bool {
        self.commands.split(' ').any(|it| it == command)
    }
}

impl Variable {
    /// Finds a variable by its name.
    pub fn find(name: &str) -> Option<&'static Self> {
        VARIABLES.iter().find(|variable| variable.name == name)
    }
}

const CYCLE: &str = "pull check";
const TIMED: &str = "pull check schedule";
const QUEUED: &str = "pull check status";
const ANSWERS: &str = "pull check status migrate rejected watermark";
const LOGGED: &str = "pull check status migrate rejected watermark schedule";

/// Writes the table: `NAME [OPTION VALUE COMMANDS] (FLAG) = DEFAULT: HELP;`.
macro_rules! variables {
    ($($name:ident $([$long:literal $value:literal $commands:ident])? $(($flag:ident))*
       $(= $default:literal)?: $help:literal;)*) => {
        /// Every variable, in the order of the documentation, which is that of problems too.
        pub const VARIABLES: &[Variable] = &[$(Variable {
            name: stringify!($name),
            $(option: Some(CliOption { long: $long, value: $value, commands: $commands }),)?
            $($flag: true,)*
            $(default: Some($default),)?
            help: $help,
            ..PLAIN
        },)*];
    };
}

const PLAIN: Variable =
    Variable { name: "", option: None, default: None, required: false, secret: false, help: "" };

variables! {
    DATAPASS_AUTH_URL (required):
        "The complete token URL, such as https://datapass.api.gouv.fr/api/oauth/token";
    DATAPASS_API_BASE_URL (required):
        "The URL that /demandes is appended to, such as https://datapass.api.gouv.fr/api/v1";
    DATAPASS_CLIENT_ID (required): "The id of the OAuth client";
    DATAPASS_CLIENT_SECRET (required) (secret): "The secret of the OAuth client";
    DATAPASS_CLIENT_SECRET_FILE: "A file that holds DATAPASS_CLIENT_SECRET instead";
    DATABASE_URL (required) (secret):
        "The URL of PostgreSQL, such as postgres://USER:PASSWORD@HOST/DATABASE";
    DATABASE_URL_FILE: "A file that holds DATABASE_URL instead";
    CREDENTIALS_DIRECTORY:
        "A directory with a file per secret, named like its variable, read last; set by systemd";
    DATAPASS_DEFINITION_ID = "proactivite_pour_les_etudiants_boursiers_dyn":
        "The definition whose requests are pulled";
    DATAPASS_ALLOW_HTTP = "0": "1 allows http URLs on hosts other than loopback";
    DATAPASS_CA_FILE: "A PEM file with root certificates to add for HTTP";
    HTTPS_PROXY: "The proxy for https URLs: an http or https URL, or HOST:PORT; also in lower case";
    HTTP_PROXY: "The proxy for http URLs; also in lower case";
    ALL_PROXY: "The proxy for both where they have none of their own; also in lower case";
    NO_PROXY:
        "Hosts asked without a proxy: *, names, IP addresses, networks, each with or without a \
         port, separated by commas; also in lower case. Loopback hosts always are";
    DATAPASS_FORMAT ["format" "text|json" ANSWERS] = "text":
        "Output format";
    DATAPASS_LOG_FORMAT ["log-format" "text|json" LOGGED] = "text":
        "Format of the log on standard error";
    RUST_LOG = "warn": "Log level: error, warn, info, debug or trace; other crates stay at warn";
    DATAPASS_PAGE_SIZE ["page-size" "N" CYCLE] = "1000": "Rows per page, 1 to 1000";
    DATAPASS_CONCURRENCY ["concurrency" "N" CYCLE] = "2": "Concurrent page requests, 1 to 4";
    DATAPASS_TIMEOUT ["timeout" "AGE" TIMED] = "15m":
        "Deadline of one cycle, as an age such as 90s or 15m";
    DATAPASS_MAX_RETRIES ["max-retries" "N" CYCLE] = "5":
        "Retries per request and per connection to PostgreSQL, 0 to 100";
    DATAPASS_RETRY_FOR ["retry-for" "AGE" CYCLE]:
        "Run a cycle that ends transient again until this age has passed, for schedulers without \
         retries of their own";
    DATAPASS_ENQUEUE ["enqueue" "auto|good_job|none" QUEUED] = "auto":
        "How a created row's job is enqueued: auto (in good_jobs if it exists), good_job or none";
    DATAPASS_METRICS_FILE ["metrics-file" "FILE" CYCLE]:
        "A file to write Prometheus metrics to, for a textfile collector";
    DATAPASS_JOB_CLASS = "ProcessProactiviteRequestJob": "The job's Active Job class";
    DATAPASS_JOB_QUEUE = "default": "The job's queue";
    DATAPASS_JOB_PRIORITY = "0": "The job's priority, an integer";
    DATAPASS_JOB_APP = "relais": "The GlobalID application of the job's argument";
    DATAPASS_JOB_ARGUMENT = "record": "The job's argument: record (its GlobalID) or id";
    DATAPASS_PULL_CRON = "0 1 * * *":
        "The schedule that entries and check-ins have, five fields of cron in UTC";
    SENTRY_DSN (secret): "Enables reports to Sentry";
    SENTRY_DSN_FILE: "A file that holds SENTRY_DSN instead";
    SENTRY_ENVIRONMENT = "production": "The environment that Sentry shows";
    SENTRY_MONITOR_SLUG: "The Sentry monitor that is checked in with at the start and the end";
    DATAPASS_PING_URL (secret): "A Healthchecks URL that is notified of the start and the end";
    DATAPASS_PING_URL_FILE: "A file that holds DATAPASS_PING_URL instead";
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = include_str!("../../.env.template");

    #[test]
    fn the_template_documents_every_variable_once_in_order() {
        let entry = |line: &str| {
            let line = line.strip_prefix("# ").unwrap_or(line);
            let (name, value) = line.split_once('=')?;
            let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
            name.chars().all(is_name).then(|| (name.to_owned(), value.to_owned()))
        };
        let entries: Vec<_> = TEMPLATE.lines().filter_map(entry).collect();
        let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
        let expected: Vec<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
        assert_eq!(names, expected);
        for (name, value) in &entries {
            let default = Variable::find(name).unwrap().default;
            if let Some(default) = default {
                assert_eq!(value.trim_matches('\''), default, "{name}");
            }
        }
    }

    #[test]
    fn a_secret_has_a_file_and_no_option() {
        for variable in VARIABLES.iter().filter(|variable| variable.secret) {
            assert!(variable.option.is_none(), "{}", variable.name);
            let file = format!("{}_FILE", variable.name);
            assert!(Variable::find(&file).is_some(), "{file}");
        }
    }
}
