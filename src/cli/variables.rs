//! Every environment variable and its option: what help, template and manual say of them.

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
    /// The commands that it applies to.
    pub commands: &'static [&'static str],
}

/// What a cycle and `check` take.
const CYCLE: &[&str] = &["pull", "check"];
/// What prints an answer or a summary.
const ANSWERS: &[&str] = &[
    "pull",
    "check",
    "status",
    "migrate",
    "rejected",
    "watermark",
];

impl Variable {
    /// Finds a variable by its name.
    pub fn find(name: &str) -> Option<&'static Self> {
        VARIABLES.iter().find(|variable| variable.name == name)
    }

    /// Returns the name of its option as it is typed.
    pub fn flag(&self) -> Option<String> {
        self.option.map(|option| format!("--{}", option.long))
    }

    const fn option(
        mut self,
        long: &'static str,
        value: &'static str,
        commands: &'static [&'static str],
    ) -> Self {
        self.option = Some(CliOption {
            long,
            value,
            commands,
        });
        self
    }

    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
}

const fn variable(name: &'static str, help: &'static str) -> Variable {
    Variable {
        name,
        option: None,
        default: None,
        required: false,
        secret: false,
        help,
    }
}

/// Every variable, in the order of the documentation, which is that of problems too.
pub const VARIABLES: &[Variable] = &[
    variable(
        "DATAPASS_AUTH_URL",
        "The complete token URL, such as https://datapass.api.gouv.fr/api/oauth/token",
    )
    .required(),
    variable(
        "DATAPASS_API_BASE_URL",
        "The URL that /demandes is appended to, such as https://datapass.api.gouv.fr/api/v1",
    )
    .required(),
    variable("DATAPASS_CLIENT_ID", "The id of the OAuth client").required(),
    variable("DATAPASS_CLIENT_SECRET", "The secret of the OAuth client")
        .required()
        .secret(),
    variable(
        "DATAPASS_CLIENT_SECRET_FILE",
        "A file that holds DATAPASS_CLIENT_SECRET instead",
    ),
    variable(
        "DATABASE_URL",
        "The URL of PostgreSQL, such as postgres://USER:PASSWORD@HOST/DATABASE",
    )
    .required()
    .secret(),
    variable(
        "DATABASE_URL_FILE",
        "A file that holds DATABASE_URL instead",
    ),
    variable(
        "CREDENTIALS_DIRECTORY",
        "A directory with a file per secret, named like its variable, read last; set by systemd",
    ),
    variable(
        "DATAPASS_DEFINITION_ID",
        "The definition whose requests are pulled",
    )
    .default("proactivite_pour_les_etudiants_boursiers_dyn"),
    variable(
        "DATAPASS_ALLOW_HTTP",
        "1 allows http URLs on hosts other than loopback",
    )
    .default("0"),
    variable(
        "DATAPASS_CA_FILE",
        "A PEM file with root certificates to add for HTTP",
    ),
    variable(
        "HTTPS_PROXY",
        "The proxy for https URLs: an http or https URL, or HOST:PORT; also in lower case",
    ),
    variable("HTTP_PROXY", "The proxy for http URLs; also in lower case"),
    variable(
        "ALL_PROXY",
        "The proxy for both where they have none of their own; also in lower case",
    ),
    variable(
        "NO_PROXY",
        "Hosts asked without a proxy: *, names, IP addresses, networks, each with or without a \
         port, separated by commas; also in lower case. Loopback hosts always are",
    ),
    variable(
        "DATAPASS_FORMAT",
        "Format of the summary line and of answers",
    )
    .option("format", "text|json", ANSWERS)
    .default("text"),
    variable("DATAPASS_LOG_FORMAT", "Format of the log on standard error")
        .option(
            "log-format",
            "text|json",
            &[
                "pull",
                "check",
                "status",
                "migrate",
                "rejected",
                "watermark",
                "schedule",
            ],
        )
        .default("text"),
    variable(
        "RUST_LOG",
        "Log level: error, warn, info, debug or trace; other crates stay at warn",
    )
    .default("warn"),
    variable("DATAPASS_PAGE_SIZE", "Rows per page, 1 to 1000")
        .option("page-size", "N", CYCLE)
        .default("1000"),
    variable("DATAPASS_CONCURRENCY", "Concurrent page requests, 1 to 4")
        .option("concurrency", "N", CYCLE)
        .default("2"),
    variable(
        "DATAPASS_TIMEOUT",
        "Deadline of one cycle, as an age such as 90s or 15m",
    )
    .option("timeout", "AGE", &["pull", "check", "schedule"])
    .default("15m"),
    variable(
        "DATAPASS_MAX_RETRIES",
        "Retries per request and per connection to PostgreSQL, 0 to 100",
    )
    .option("max-retries", "N", CYCLE)
    .default("5"),
    variable(
        "DATAPASS_RETRY_FOR",
        "Run a cycle that ends transient again until this age has passed, for schedulers without \
         retries of their own",
    )
    .option("retry-for", "AGE", CYCLE),
    variable(
        "DATAPASS_ENQUEUE",
        "How a created row's job is enqueued: auto (in good_jobs if it exists), good_job or none",
    )
    .option(
        "enqueue",
        "auto|good_job|none",
        &["pull", "check", "status"],
    )
    .default("auto"),
    variable(
        "DATAPASS_METRICS_FILE",
        "A file to write Prometheus metrics to, for a textfile collector",
    )
    .option("metrics-file", "FILE", CYCLE),
    variable("DATAPASS_JOB_CLASS", "The job's Active Job class")
        .default("ProcessProactiviteRequestJob"),
    variable("DATAPASS_JOB_QUEUE", "The job's queue").default("default"),
    variable("DATAPASS_JOB_PRIORITY", "The job's priority, an integer").default("0"),
    variable(
        "DATAPASS_JOB_APP",
        "The GlobalID application of the job's argument",
    )
    .default("relais"),
    variable(
        "DATAPASS_JOB_ARGUMENT",
        "The job's argument: record (its GlobalID) or id",
    )
    .default("record"),
    variable(
        "DATAPASS_PULL_CRON",
        "The schedule that entries and check-ins have, five fields of cron in UTC",
    )
    .default("0 1 * * *"),
    variable("SENTRY_DSN", "Enables reports to Sentry").secret(),
    variable("SENTRY_DSN_FILE", "A file that holds SENTRY_DSN instead"),
    variable("SENTRY_ENVIRONMENT", "The environment that Sentry shows").default("production"),
    variable(
        "SENTRY_MONITOR_SLUG",
        "The Sentry monitor that is checked in with at the start and the end",
    ),
    variable(
        "DATAPASS_PING_URL",
        "A Healthchecks URL that is notified of the start and the end",
    )
    .secret(),
    variable(
        "DATAPASS_PING_URL_FILE",
        "A file that holds DATAPASS_PING_URL instead",
    ),
];

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
            name.chars()
                .all(is_name)
                .then(|| (name.to_owned(), value.to_owned()))
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
