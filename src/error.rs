//! The one error type of a run: what failed (`Reason`), in which step (`Stage`), and a message.
//!
//! A [`Reason`] is a stable word that users match on; it alone decides between permanent and
//! transient. A message names what failed, where, and what to do; it never holds a secret, personal
//! data or a piece of a response body, so that it may be printed and stored anywhere.

use std::time::Duration;

use serde::Serialize;
use strum::{Display, IntoStaticStr, VariantArray};

/// How a run ends, and the only place with the numbers of the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Exit {
    /// The run did what it was asked to.
    Success = 0,
    /// An operator must act; running again changes nothing.
    Permanent = 1,
    /// Run it again.
    Transient = 2,
}

impl Exit {
    /// Returns the word of the summary's `outcome` field.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns the number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// The step of a run in which it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
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
        self.into()
    }
}

/// Why a run failed: a stable word, and through [`Reason::exit`] the exit status.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Display, IntoStaticStr, VariantArray, Serialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(into = "&'static str")]
pub enum Reason {
    /// The command line is not understood.
    Usage,
    /// A setting is missing or bad.
    Configuration,
    /// This machine cannot start a thread, open a file or write output.
    Resources,
    /// No connection to an HTTP host: DNS, refused, reset, proxy.
    Connection,
    /// The TLS handshake failed for another cause than the certificate.
    Tls,
    /// A server's certificate was refused.
    Certificate,
    /// One request took longer than its own limit.
    Timeout,
    /// The whole cycle's `--timeout` is over.
    Deadline,
    /// 401 with a fresh token or at the token endpoint.
    Unauthorized,
    /// The token endpoint refused the client credentials (a 4xx other than 401, 408, 425, 429).
    TokenRefused,
    /// 429: too many requests.
    RateLimited,
    /// 408, 425 or 5xx.
    ServerError,
    /// Any other 4xx.
    RequestRefused,
    /// Any 3xx: redirects are not followed, the request may carry a secret.
    Redirect,
    /// A body that is not valid JSON, or is truncated.
    BadBody,
    /// JSON of another shape than expected.
    WrongShape,
    /// A body larger than the limit, once decoded.
    TooLarge,
    /// The listing moved too much, or a tie fills a page: completeness could not be proved.
    UnprovedListing,
    /// What the account sees changed while it was listed, or since the last listing.
    ViewChanged,
    /// The server returns the same full page at every offset.
    NoPaging,
    /// The account may not see the definition.
    NoDefinition,
    /// No connection to PostgreSQL, or it went away.
    DatabaseUnavailable,
    /// PostgreSQL is busy: a lock, a conflict, a limit, a full disk.
    DatabaseBusy,
    /// PostgreSQL refused a statement.
    DatabaseRefused,
    /// PostgreSQL refused the login or the database name.
    DatabaseLogin,
    /// PostgreSQL offers no TLS and the settings demand it.
    DatabaseTls,
    /// A table or column is missing: `datapass-pull migrate` makes it.
    TablesMissing,
    /// A table that others made needs a change that `migrate` makes only with `--yes`.
    UpgradeRefused,
    /// A table did not store what was written to it, without an error.
    NotWritten,
    /// The watermark belongs to another definition.
    DefinitionChanged,
    /// Jobs cannot be enqueued in `good_jobs`.
    EnqueueRefused,
    /// SIGTERM, SIGINT or SIGHUP.
    Interrupted,
    /// An internal error of this program.
    Panic,
}

impl Reason {
    /// Every reason, in the order of the documentation.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Returns the stable word, as `Display` does.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns whether an operator must act or the next run may succeed.
    pub fn exit(self) -> Exit {
        match self {
            Self::Resources
            | Self::Connection
            | Self::Tls
            | Self::Timeout
            | Self::Deadline
            | Self::Unauthorized
            | Self::RateLimited
            | Self::ServerError
            | Self::BadBody
            | Self::UnprovedListing
            | Self::ViewChanged
            | Self::DatabaseUnavailable
            | Self::DatabaseBusy
            | Self::Interrupted => Exit::Transient,
            _ => Exit::Permanent,
        }
    }
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
    /// What else a caller may look at.
    pub detail: Detail,
    #[source]
    source: Option<anyhow::Error>,
}

/// What a caller may look at beside the reason of a failure.
#[derive(Debug, Default)]
pub enum Detail {
    /// Nothing more.
    #[default]
    None,
    /// The problems that the message joins.
    Problems(Vec<String>),
    /// The response to a request: its status, and what its `Retry-After` asks for.
    Response(u16, Duration),
    /// Another transaction was in the way, so that this one may be run again.
    Conflict,
}

impl Failure {
    /// Makes a failure without a deeper cause.
    pub fn new(stage: Stage, reason: Reason, message: impl Into<String>) -> Self {
        Self { stage, reason, message: message.into(), detail: Detail::None, source: None }
    }

    /// Makes the failure of several problems, which its message joins behind `title`.
    pub fn of_problems(stage: Stage, reason: Reason, title: &str, problems: Vec<String>) -> Self {
        let message = format!("{title}: {}", problems.join("; "));
        Self::new(stage, reason, message).with_detail(Detail::Problems(problems))
    }

    /// Makes the failure of a machine that cannot start a thread.
    pub fn no_thread(error: impl Into<anyhow::Error>) -> Self {
        let message = "Cannot start a thread: check the limits on processes, open files and memory";
        Self::new(Stage::Prepare, Reason::Resources, message).with_source(error)
    }

    /// Adds the cause. Its `Display` is printed too, so it must be as clean as the message.
    pub fn with_source(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what a caller may look at.
    pub fn with_detail(mut self, detail: Detail) -> Self {
        self.detail = detail;
        self
    }

    /// Sets the step, where that is only known later.
    pub fn at(mut self, stage: Stage) -> Self {
        self.stage = stage;
        self
    }

    /// Returns whether an operator must act or the next run may succeed.
    pub fn exit(&self) -> Exit {
        self.reason.exit()
    }

    /// Returns what is wrong, one sentence per problem.
    pub fn problems(&self) -> Vec<String> {
        match &self.detail {
            Detail::Problems(problems) => problems.clone(),
            _ => vec![self.error_chain()],
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
