//! The one error type of a run: what failed (`Reason`), in which step (`Stage`), and a message.
//!
//! A [`Reason`] is a stable word that users match on; it alone decides between permanent and
//! transient. A message names what failed, where, and what to do; it never holds a secret, personal
//! data or a piece of a response body, so that it may be printed and stored anywhere.

use std::fmt;

/// Whether running again without a change can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An operator must act first.
    Permanent,
    /// The next run may succeed.
    Transient,
}

impl Kind {
    /// Returns the word of the summary's `outcome` field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Transient => "transient",
        }
    }
}

/// The step of a run in which it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Arguments, settings, and the state read before the first request.
    Prepare,
    /// The token endpoint.
    Authenticate,
    /// The listing and `/definitions`.
    List,
    /// Rows and jobs, and the transaction around them.
    Create,
    /// The watermark and the commit.
    Advance,
}

impl Stage {
    /// Returns the word that logs and reports show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Authenticate => "authenticate",
            Self::List => "list",
            Self::Create => "create",
            Self::Advance => "advance",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $kind:ident;)*) => {
        /// Why a run failed: a stable word, and through [`Reason::kind`] the exit status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// Returns the stable word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// Returns whether an operator must act or the next run may succeed.
            pub fn kind(self) -> Kind {
                match self {
                    $(Self::$name => Kind::$kind,)*
                }
            }
        }
    };
}

reasons! {
    /// The command line is not understood.
    Usage = "usage", Permanent;
    /// A setting is missing or bad.
    Configuration = "configuration", Permanent;
    /// This machine cannot start a thread, open a file or write output.
    Resources = "resources", Transient;
    /// No connection to an HTTP host: DNS, refused, reset, proxy.
    Connection = "connection", Transient;
    /// The TLS handshake failed for another cause than the certificate.
    Tls = "tls", Transient;
    /// A server's certificate was refused.
    Certificate = "certificate", Permanent;
    /// One request took longer than its own limit.
    Timeout = "timeout", Transient;
    /// The whole cycle's `--timeout` is over.
    Deadline = "deadline", Transient;
    /// 401 with a fresh token or at the token endpoint.
    Unauthorized = "unauthorized", Transient;
    /// The token endpoint refused the client credentials (a 4xx other than 401, 408, 425, 429).
    TokenRefused = "token_refused", Permanent;
    /// 429: too many requests.
    RateLimited = "rate_limited", Transient;
    /// 408, 425 or 5xx.
    ServerError = "server_error", Transient;
    /// Any other 4xx.
    RequestRefused = "request_refused", Permanent;
    /// Any 3xx: redirects are not followed, the request may carry a secret.
    Redirect = "redirect", Permanent;
    /// A body that is not valid JSON, or is truncated.
    BadBody = "bad_body", Transient;
    /// JSON of another shape than expected.
    WrongShape = "wrong_shape", Permanent;
    /// A body larger than the limit, once decoded.
    TooLarge = "too_large", Permanent;
    /// The listing moved too much, or a tie fills a page: completeness could not be proved.
    UnprovedListing = "unproved_listing", Transient;
    /// What the account sees changed while it was listed, or since the last listing.
    ViewChanged = "view_changed", Transient;
    /// The server returns the same full page at every offset.
    NoPaging = "no_paging", Permanent;
    /// The account may not see the definition.
    NoDefinition = "no_definition", Permanent;
    /// No connection to PostgreSQL, or it went away.
    DatabaseUnavailable = "database_unavailable", Transient;
    /// PostgreSQL is busy: a lock, a conflict, a limit, a full disk.
    DatabaseBusy = "database_busy", Transient;
    /// PostgreSQL refused a statement.
    DatabaseRefused = "database_refused", Permanent;
    /// PostgreSQL refused the login or the database name.
    DatabaseLogin = "database_login", Permanent;
    /// PostgreSQL offers no TLS and the settings demand it.
    DatabaseTls = "database_tls", Permanent;
    /// A table or column is missing: `datapass-pull migrate` makes it.
    TablesMissing = "tables_missing", Permanent;
    /// A table that others made needs a change that `migrate` makes only with `--yes`.
    UpgradeRefused = "upgrade_refused", Permanent;
    /// A table did not store what was written to it, without an error.
    NotWritten = "not_written", Permanent;
    /// The watermark belongs to another definition.
    DefinitionChanged = "definition_changed", Permanent;
    /// Jobs cannot be enqueued in `good_jobs`.
    EnqueueRefused = "enqueue_refused", Permanent;
    /// SIGTERM, SIGINT or SIGHUP.
    Interrupted = "interrupted", Transient;
    /// An internal error of this program.
    Panic = "panic", Permanent;
}

/// A failed run.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The step that failed.
    pub stage: Stage,
    /// The stable word.
    pub reason: Reason,
    /// One sentence, free of secrets and personal data.
    pub message: String,
    /// The problems that the message joins, when it is about several.
    problems: Vec<String>,
    #[source]
    source: Option<anyhow::Error>,
}

impl Failure {
    /// Makes a failure without a deeper cause.
    pub fn new(stage: Stage, reason: Reason, message: impl Into<String>) -> Self {
        Self { stage, reason, message: message.into(), problems: vec![], source: None }
    }

    /// Makes the failure of several problems, which its message joins behind `title`.
    pub fn of_problems(stage: Stage, reason: Reason, title: &str, problems: Vec<String>) -> Self {
        let message = format!("{title}: {}", problems.join("; "));
        Self { problems, ..Self::new(stage, reason, message) }
    }

    /// Makes the failure of a machine that cannot start a thread.
    pub fn no_thread(stage: Stage, error: impl Into<anyhow::Error>) -> Self {
        let message = "Cannot start a thread: check the limits on processes, open files and memory";
        Self::new(stage, Reason::Resources, message).with_source(error)
    }

    /// Adds the cause. Its `Display` is printed too, so it must be as clean as the message.
    pub fn with_source(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Sets the step, where that is only known later.
    pub fn at(mut self, stage: Stage) -> Self {
        self.stage = stage;
        self
    }

    /// Returns whether an operator must act.
    pub fn kind(&self) -> Kind {
        self.reason.kind()
    }

    /// Returns what is wrong, one sentence per problem.
    pub fn problems(&self) -> Vec<String> {
        match &self.problems[..] {
            [] => vec![self.error_chain()],
            problems => problems.to_vec(),
        }
    }

    /// Returns the message with its causes, on one line.
    pub fn error_chain(&self) -> String {
        let causes = self.source.iter().flat_map(anyhow::Error::chain);
        causes.fold(self.message.clone(), |chain, cause| format!("{chain}: {cause}"))
    }
}

/// The result of every step of a run.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
