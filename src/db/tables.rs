//! The tables as this program needs them, for `migrate`, for `check` and for messages.
//!
//! `sql/schema.sql` creates them so; this says what may differ in a table that the Rails application
//! made, and which rights a cycle needs.

/// The kinds of column types, by what may be written to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `text`, or Rails' `character varying`.
    Text,
    /// An array of those.
    Texts,
    /// `bigint`.
    Bigint,
    /// `integer`, or a `bigint` of Rails.
    Integer,
    /// `boolean`.
    Boolean,
    /// `date`.
    Date,
    /// `timestamp with time zone`.
    Instant,
    /// The same, or Rails' `timestamp` that holds UTC.
    InstantOrUtc,
    /// `uuid`.
    Uuid,
}

impl Kind {
    /// Returns the type that a missing column gets.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Texts => "text[]",
            Self::Bigint => "bigint",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Instant | Self::InstantOrUtc => "timestamptz",
            Self::Uuid => "uuid",
        }
    }

    /// Tells whether a column of this type, in `format_type`'s words without a length, will do.
    pub(crate) fn takes(self, found: &str) -> bool {
        match self {
            Self::Text => ["text", "character varying", "citext"].contains(&found),
            Self::Texts => ["text[]", "character varying[]"].contains(&found),
            Self::Bigint => found == "bigint",
            Self::Integer => ["integer", "bigint"].contains(&found),
            Self::Boolean => found == "boolean",
            Self::Date => found == "date",
            Self::Instant => found == "timestamp with time zone",
            Self::InstantOrUtc => {
                found == "timestamp with time zone" || found == "timestamp without time zone"
            }
            Self::Uuid => found == "uuid",
        }
    }
}

/// A column that a cycle reads or writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether the cycle may leave it null.
    pub(crate) nullable: bool,
    /// The default that a missing column gets, and an existing one that has none.
    pub(crate) default: Option<&'static str>,
}

const fn filled(name: &'static str, kind: Kind) -> Column {
    Column {
        name,
        kind,
        nullable: false,
        default: None,
    }
}

const fn nullable(name: &'static str, kind: Kind) -> Column {
    Column {
        name,
        kind,
        nullable: true,
        default: None,
    }
}

const fn defaulted(name: &'static str, kind: Kind, default: &'static str) -> Column {
    Column {
        name,
        kind,
        nullable: false,
        default: Some(default),
    }
}

/// A table of ours.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [Column],
    /// The column that a unique index must cover alone.
    pub(crate) unique: &'static str,
    /// The rights that a cycle needs.
    pub(crate) rights: &'static [&'static str],
}

/// Where each authorization ends up.
pub(crate) const REQUESTS: Table = Table {
    name: "proactivite_requests",
    columns: &[
        filled("id", Kind::Bigint),
        filled("datapass_authorization_id", Kind::Text),
        filled("datapass_demande_id", Kind::Bigint),
        filled("siret", Kind::Text),
        filled("scholarship_level", Kind::Text),
        nullable("entity_type", Kind::Text),
        nullable("code_insee_entity", Kind::Text),
        filled("code_insee_communes", Kind::Texts),
        nullable("transmission_date", Kind::Date),
        nullable("last_validated_at", Kind::Instant),
        defaulted("status", Kind::Text, "'pending'"),
        defaulted("created_at", Kind::InstantOrUtc, "now()"),
        defaulted("updated_at", Kind::InstantOrUtc, "now()"),
    ],
    unique: "datapass_authorization_id",
    rights: &["SELECT", "INSERT"],
};

/// Every entry that has or had a row.
pub(crate) const HANDLED: Table = Table {
    name: "datapass_pull_handled",
    columns: &[
        filled("datapass_authorization_id", Kind::Text),
        nullable("last_validated_at", Kind::Instant),
        defaulted("handled_at", Kind::Instant, "now()"),
    ],
    unique: "datapass_authorization_id",
    rights: &["SELECT", "INSERT", "UPDATE"],
};

/// The one row that says how far all is known.
pub(crate) const WATERMARKS: Table = Table {
    name: "datapass_pull_watermarks",
    columns: &[
        defaulted("id", Kind::Integer, "1"),
        nullable("definition_id", Kind::Text),
        nullable("last_validated_at", Kind::Instant),
        nullable(SKIP_BEFORE, Kind::Instant),
        defaulted("created_at", Kind::Instant, "now()"),
        defaulted("updated_at", Kind::Instant, "now()"),
    ],
    unique: "id",
    rights: &["SELECT", "INSERT", "UPDATE"],
};

/// The entries that failed validation.
pub(crate) const REJECTIONS: Table = Table {
    name: "datapass_pull_rejections",
    columns: &[
        filled("id", Kind::Bigint),
        filled("ref", Kind::Text),
        nullable("demande_id", Kind::Bigint),
        nullable("datapass_authorization_id", Kind::Text),
        defaulted("reasons", Kind::Texts, "'{}'"),
        nullable("last_validated_at", Kind::Instant),
        defaulted("first_seen_at", Kind::Instant, "now()"),
        defaulted("last_seen_at", Kind::Instant, "now()"),
        defaulted("times_seen", Kind::Bigint, "1"),
        nullable("accepted_at", Kind::Instant),
        nullable("accepted_reason", Kind::Text),
        nullable("closed_at", Kind::Instant),
    ],
    unique: "ref",
    rights: &["SELECT", "INSERT", "UPDATE"],
};

/// One row a cycle.
pub(crate) const RUNS: Table = Table {
    name: "datapass_pull_runs",
    columns: &[
        filled("id", Kind::Bigint),
        nullable("run_id", Kind::Uuid),
        defaulted("kind", Kind::Text, "'cycle'"),
        nullable("outcome", Kind::Text),
        nullable("reason", Kind::Text),
        nullable("stage", Kind::Text),
        defaulted("pages", Kind::Bigint, "0"),
        defaulted("seen", Kind::Bigint, "0"),
        defaulted("matched", Kind::Bigint, "0"),
        defaulted("created", Kind::Bigint, "0"),
        defaulted("late", Kind::Bigint, "0"),
        defaulted("existing", Kind::Bigint, "0"),
        defaulted("deleted", Kind::Bigint, "0"),
        defaulted("revalidated", Kind::Bigint, "0"),
        defaulted("rejected", Kind::Bigint, "0"),
        defaulted("accepted", Kind::Bigint, "0"),
        defaulted("skipped", Kind::Bigint, "0"),
        defaulted("dropped", Kind::Bigint, "0"),
        defaulted("enqueued", Kind::Bigint, "0"),
        defaulted("missing", Kind::Bigint, "0"),
        defaulted("drift_rewinds", Kind::Bigint, "0"),
        nullable("since", Kind::Instant),
        nullable("watermark_before", Kind::Instant),
        nullable("watermark", Kind::Instant),
        defaulted("duration_ms", Kind::Bigint, "0"),
        defaulted("dry_run", Kind::Boolean, "false"),
        nullable("enqueue", Kind::Text),
        defaulted("started_at", Kind::Instant, "now()"),
        nullable("version", Kind::Text),
    ],
    unique: "id",
    // With DELETE, old ones are pruned; nothing fails without it.
    rights: &["SELECT", "INSERT"],
};

/// All of them, in the order in which they are made.
pub(crate) const TABLES: [&Table; 5] = [&REQUESTS, &HANDLED, &WATERMARKS, &REJECTIONS, &RUNS];

/// The job table of GoodJob, which is not ours.
pub(crate) const GOOD_JOBS: &str = "good_jobs";

/// The column of `proactivite_requests` that older versions of the Rails application have.
pub(crate) const OLD_ID: &str = "external_request_id";

/// The column of the watermark's table that starts as the watermark when it is added.
pub(crate) const SKIP_BEFORE: &str = "skip_before";
