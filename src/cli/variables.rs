//! Every environment variable that the program reads, with its default.

/// One environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The option that wins over it.
    pub option: Option<&'static str>,
    /// The value that stands for an absent one; judged like any other.
    pub default: Option<&'static str>,
    /// Whether a cycle needs it and has no default for it.
    pub required: bool,
    /// What it is, in one line.
    pub help: &'static str,
}

impl Variable {
    /// Finds a variable by its name.
    pub fn find(name: &str) -> Option<&'static Self> {
        VARIABLES.iter().find(|variable| variable.name == name)
    }
}

const fn variable(name: &'static str, help: &'static str) -> Variable {
    Variable {
        name,
        option: None,
        default: None,
        required: false,
        help,
    }
}

impl Variable {
    const fn option(self, option: &'static str) -> Self {
        Self {
            option: Some(option),
            ..self
        }
    }

    const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    const fn default(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }
}

/// Every variable, in the order of the documentation, which is that of problems too.
pub const VARIABLES: &[Variable] = &[
    variable(
        "DATAPASS_AUTH_URL",
        "The whole token URL, such as https://datapass.api.gouv.fr/api/oauth/token",
    )
    .required(),
    variable(
        "DATAPASS_API_BASE_URL",
        "The base that /demandes is appended to, such as https://datapass.api.gouv.fr/api/v1",
    )
    .required(),
    variable("DATAPASS_CLIENT_ID", "The id of the OAuth client").required(),
    variable("DATAPASS_CLIENT_SECRET", "The secret of the OAuth client").required(),
    variable(
        "DATAPASS_CLIENT_SECRET_FILE",
        "A file that holds DATAPASS_CLIENT_SECRET instead",
    ),
    variable(
        "DATABASE_URL",
        "PostgreSQL's address, such as postgres://USER:PASSWORD@HOST/DATABASE",
    )
    .required(),
    variable(
        "DATABASE_URL_FILE",
        "A file that holds DATABASE_URL instead",
    ),
    variable(
        "CREDENTIALS_DIRECTORY",
        "Set by systemd: where DATAPASS_CLIENT_SECRET and DATABASE_URL are looked for last",
    ),
    variable(
        "DATAPASS_DEFINITION_ID",
        "The kind of request that is pulled",
    )
    .default("proactivite_pour_les_etudiants_boursiers_dyn"),
    variable(
        "DATAPASS_ALLOW_HTTP",
        "1 allows http URLs on other hosts than this one",
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
        "Form of the summary line and of answers: text or json",
    )
    .option("--format")
    .default("text"),
    variable("DATAPASS_LOG_FORMAT", "Form of the log: text or json")
        .option("--log-format")
        .default("text"),
    variable(
        "RUST_LOG",
        "Level of this program's log: error, warn, info, debug or trace",
    )
    .default("warn"),
    variable("DATAPASS_PAGE_SIZE", "Rows asked for a page, 1 to 1000")
        .option("--page-size")
        .default("1000"),
    variable("DATAPASS_CONCURRENCY", "Pages in flight, 1 to 4")
        .option("--concurrency")
        .default("2"),
    variable(
        "DATAPASS_LOOKBACK",
        "How far before the watermark a cycle looks again, at least 1m",
    )
    .option("--lookback")
    .default("1h"),
    variable("DATAPASS_TIMEOUT", "Deadline of the whole cycle")
        .option("--timeout")
        .default("15m"),
    variable(
        "DATAPASS_MAX_RETRIES",
        "Further tries of one request, 0 to 100",
    )
    .option("--max-retries")
    .default("5"),
    variable(
        "DATAPASS_ENQUEUE",
        "How a created row is handed on: auto, good_job or none",
    )
    .option("--enqueue")
    .default("auto"),
    variable(
        "DATAPASS_METRICS_FILE",
        "Prometheus text for a textfile collector",
    )
    .option("--metrics-file"),
    variable("DATAPASS_JOB_CLASS", "The job's Active Job class")
        .default("ProcessProactiviteRequestJob"),
    variable("DATAPASS_JOB_QUEUE", "The job's queue").default("default"),
    variable(
        "DATAPASS_JOB_APP",
        "The GlobalID application of the job's argument",
    )
    .default("relais"),
    variable(
        "DATAPASS_JOB_ARGUMENT",
        "What the job is called with: record or id",
    )
    .default("record"),
    variable(
        "DATAPASS_PULL_CRON",
        "When `schedule` runs it, five fields in UTC",
    )
    .default("0 1 * * *"),
    variable("SENTRY_DSN", "Turns on reports to Sentry"),
    variable("SENTRY_ENVIRONMENT", "The environment that Sentry shows").default("production"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
    fn the_template_sets_nothing() {
        let variables: BTreeMap<String, String> = dotenvy::from_read_iter(TEMPLATE.as_bytes())
            .map(Result::unwrap)
            .collect();
        assert!(variables.values().all(String::is_empty), "{variables:?}");
        for variable in VARIABLES {
            assert_eq!(
                variables.contains_key(variable.name),
                variable.required,
                "{}",
                variable.name
            );
        }
    }

    #[test]
    fn options_are_those_of_the_command_line() {
        let command = crate::cli::command();
        for variable in VARIABLES {
            let Some(option) = variable.option else {
                continue;
            };
            let is_long = |arg: &clap::Arg| arg.get_long() == option.strip_prefix("--");
            assert!(command.get_arguments().any(is_long), "{option}");
        }
    }
}
