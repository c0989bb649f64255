//! The tables as this program needs them, for `migrate`, for `check` and for messages.
//!
//! `sql/schema.sql` creates them so; this says what may differ in a table that the Rails application
//! made, and which privileges a cycle needs.

/// The kinds of column types, by what may be written to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `text`, or Rails' `character varying`; a cycle writes at most so many characters.
    Text(u32),
    /// An array of those.
    Texts(u32),
    /// `bigint`.
    Bigint,
    /// `bigint`, or an `integer` that is large enough for a long time.
    Count,
    /// `integer`, or a `bigint` of Rails.
    Integer,
    /// `boolean`.
    Boolean,
    /// `date`.
    Date,
    /// `timestamp with time zone`, or Rails' `timestamp` that holds UTC and is retyped.
    Instant,
    /// The same, but Rails' own: it is not retyped.
    InstantOrUtc,
    /// `uuid`.
    Uuid,
}

impl Kind {
    /// Returns the type that a missing column gets.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Texts(_) => "text[]",
            Self::Bigint | Self::Count => "bigint",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Instant | Self::InstantOrUtc => "timestamptz",
            Self::Uuid => "uuid",
        }
    }

    /// Returns whether a column of the type of this name in `pg_type` will do.
    pub(crate) fn takes(self, found: &str) -> bool {
        let names: &[&str] = match self {
            Self::Text(_) => &["text", "varchar", "bpchar", "citext"],
            Self::Texts(_) => &["_text", "_varchar", "_bpchar"],
            Self::Bigint => &["int8"],
            Self::Count | Self::Integer => &["int8", "int4"],
            Self::Boolean => &["bool"],
            Self::Date => &["date", "timestamp", "timestamptz"],
            Self::Instant | Self::InstantOrUtc => &["timestamptz", "timestamp"],
            Self::Uuid => &["uuid"],
        };
        names.contains(&found)
    }

    /// Returns how many characters a value may have.
    pub(crate) fn max_chars(self) -> Option<u32> {
        match self {
            Self::Text(max_chars) | Self::Texts(max_chars) => Some(max_chars),
            _ => None,
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

/// The longest word of a run, or more.
const MAX_WORD: u32 = 24;

/// A table of ours.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [Column],
    /// The column that a unique index must cover alone.
    pub(crate) unique: &'static str,
    /// The privileges that a cycle needs.
    pub(crate) privileges: &'static [&'static str],
}

/// Where each authorization ends up.
pub(crate) const REQUESTS: Table = Table {
    name: "proactivite_requests",
    columns: &[
        filled("id", Kind::Count),
        filled("datapass_authorization_id", Kind::Text(200)),
        filled("datapass_demande_id", Kind::Bigint),
        filled("siret", Kind::Text(14)),
        filled("scholarship_level", Kind::Text(4)),
        nullable("entity_type", Kind::Text(11)),
        nullable("code_insee_entity", Kind::Text(5)),
        filled("code_insee_communes", Kind::Texts(5)),
        nullable("transmission_date", Kind::Date),
        nullable("last_validated_at", Kind::Instant),
        defaulted("status", Kind::Text(7), "'pending'"),
        defaulted("created_at", Kind::InstantOrUtc, "now()"),
        defaulted("updated_at", Kind::InstantOrUtc, "now()"),
    ],
    unique: "datapass_authorization_id",
    privileges: &["SELECT", "INSERT"],
};

/// Every entry that has or had a row.
pub(crate) const HANDLED: Table = Table {
    name: "datapass_pull_handled",
    columns: &[
        filled("datapass_authorization_id", Kind::Text(200)),
        nullable("last_validated_at", Kind::Instant),
        defaulted("handled_at", Kind::Instant, "now()"),
    ],
    unique: "datapass_authorization_id",
    privileges: &["SELECT", "INSERT", "UPDATE"],
};

/// The one row that says how far all is known.
pub(crate) const WATERMARKS: Table = Table {
    name: "datapass_pull_watermarks",
    columns: &[
        defaulted("id", Kind::Integer, "1"),
        nullable("definition_id", Kind::Text(200)),
        nullable("last_validated_at", Kind::Instant),
        nullable(SKIP_BEFORE, Kind::Instant),
        defaulted("created_at", Kind::Instant, "now()"),
        defaulted("updated_at", Kind::Instant, "now()"),
    ],
    unique: "id",
    privileges: &["SELECT", "INSERT", "UPDATE"],
};

/// The entries that failed validation.
pub(crate) const REJECTIONS: Table = Table {
    name: "datapass_pull_rejections",
    columns: &[
        filled("id", Kind::Count),
        filled("ref", Kind::Text(200)),
        nullable("demande_id", Kind::Bigint),
        nullable("datapass_authorization_id", Kind::Text(200)),
        defaulted("reasons", Kind::Texts(100), "'{}'"),
        nullable("last_validated_at", Kind::Instant),
        defaulted("first_seen_at", Kind::Instant, "now()"),
        defaulted("last_seen_at", Kind::Instant, "now()"),
        defaulted("times_seen", Kind::Count, "1"),
        nullable("accepted_at", Kind::Instant),
        nullable("accepted_reason", Kind::Text(0)),
        nullable("closed_at", Kind::Instant),
    ],
    unique: "ref",
    privileges: &["SELECT", "INSERT", "UPDATE"],
};

/// One row a cycle.
pub(crate) const RUNS: Table = Table {
    name: "datapass_pull_runs",
    columns: &[
        filled("id", Kind::Count),
        nullable("run_id", Kind::Uuid),
        defaulted("kind", Kind::Text(MAX_WORD), "'cycle'"),
        nullable("outcome", Kind::Text(MAX_WORD)),
        nullable("reason", Kind::Text(MAX_WORD)),
        nullable("stage", Kind::Text(MAX_WORD)),
        defaulted("pages", Kind::Count, "0"),
        defaulted("seen", Kind::Count, "0"),
        defaulted("matched", Kind::Count, "0"),
        defaulted("created", Kind::Count, "0"),
        defaulted("late", Kind::Count, "0"),
        defaulted("existing", Kind::Count, "0"),
        defaulted("deleted", Kind::Count, "0"),
        defaulted("revalidated", Kind::Count, "0"),
        defaulted("rejected", Kind::Count, "0"),
        defaulted("accepted", Kind::Count, "0"),
        defaulted("skipped", Kind::Count, "0"),
        defaulted("dropped", Kind::Count, "0"),
        defaulted("enqueued", Kind::Count, "0"),
        defaulted("missing", Kind::Count, "0"),
        defaulted("drift_rewinds", Kind::Count, "0"),
        nullable("since", Kind::Instant),
        nullable("watermark_before", Kind::Instant),
        nullable("watermark", Kind::Instant),
        defaulted("duration_ms", Kind::Count, "0"),
        defaulted("dry_run", Kind::Boolean, "false"),
        nullable("enqueue", Kind::Text(MAX_WORD)),
        defaulted("started_at", Kind::Instant, "now()"),
        nullable("version", Kind::Text(MAX_WORD)),
    ],
    unique: "id",
    // With DELETE, old ones are pruned; nothing fails without it.
    privileges: &["SELECT", "INSERT"],
};

/// All of them, in the order in which they are made.
pub(crate) const TABLES: [&Table; 5] = [&REQUESTS, &HANDLED, &WATERMARKS, &REJECTIONS, &RUNS];

/// The job table of GoodJob, which is not ours: its columns are checked where jobs are enqueued.
pub(crate) const GOOD_JOBS: Table = Table {
    name: "good_jobs",
    columns: &[],
    unique: "id",
    privileges: &["INSERT"],
};

/// Returns the table that a statement of a cycle writes to.
pub(crate) fn written_by(sql: &str) -> Option<&'static str> {
    let sql = sql.to_ascii_lowercase();
    let written = ["insert into ", "update "].iter().find_map(|verb| {
        let (_, rest) = sql.split_once(verb)?;
        rest.split([' ', '\n', '(']).next()
    })?;
    let mut names = TABLES
        .iter()
        .map(|table| table.name)
        .chain([GOOD_JOBS.name]);
    names.find(|name| written.trim_matches('"').ends_with(name))
}

/// The column of `proactivite_requests` that older versions of the Rails application have.
pub(crate) const OLD_ID: &str = "external_request_id";

/// The column of the watermark's table that starts as the watermark when it is added.
pub(crate) const SKIP_BEFORE: &str = "skip_before";
