//! The log: one event per line on standard error, as text or JSON; plain sentences on a terminal.
//!
//! Our own crate's level is set by `-v` or `RUST_LOG`; every other crate stays at warnings, because
//! libraries log requests and rows below that. Messages may hold remote text, so that nothing in
//! them can end a line, forge one, or control a terminal.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use chrono::{DateTime, SecondsFormat, Utc};
use log::kv::{self, Key, Value as KeyValue, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record, error, warn};
use serde_json::{Map, Value, json};

use crate::config::{Format, LogConfig};
use crate::error::{Failure, Stage};
use crate::output::escape::{self, escape, is_unsafe};
use crate::output::progress;
use crate::process::run_id;

/// The target of our own events; those of our modules begin with it.
const OWN_TARGET: &str = "datapass_pull";

/// The target of what a dry run would create: its events are logged at any level.
pub const DRY_RUN: &str = "datapass_pull::dry_run";

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// A sentence for an operator who watches.
    Terminal,
    /// Time, level, message and fields.
    Text,
    /// A JSON object.
    Json,
}

/// The log of the process, once it is set up.
static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    levels: env_logger::Logger,
    style: Style,
}

/// Sets up the log of the process, to be called once.
pub fn init(config: &LogConfig) {
    let style = match config.format {
        Format::Json => Style::Json,
        Format::Text if io::stderr().is_terminal() => Style::Terminal,
        Format::Text => Style::Text,
    };
    let (levels, is_understood) = levels(config);
    log::set_max_level(levels.filter());
    // It fails only when a log is there already.
    let _ = log::set_logger(LOGGER.get_or_init(|| Logger { levels, style }));
    if !is_understood {
        warn!(stage = Stage::Prepare.as_str(); "RUST_LOG is not understood and has no effect");
    }
}

/// Logs a failure. In a log it is one line, the last of standard error; on a terminal one line per
/// problem.
pub fn failure(failure: &Failure) {
    let (stage, reason) = (failure.stage.as_str(), failure.reason.as_str());
    let lines = match LOGGER.get() {
        Some(Logger { style: Style::Terminal, .. }) => failure.problems(),
        _ => vec![failure.error_chain()],
    };
    for line in lines {
        error!(stage = stage, reason = reason; "{line}");
    }
}

/// Returns the level of each target, and whether `RUST_LOG` is understood.
fn levels(config: &LogConfig) -> (env_logger::Logger, bool) {
    let mut levels = env_logger::Builder::new();
    levels.filter_level(LevelFilter::Warn).filter_module(DRY_RUN, LevelFilter::Info);
    let directives = match config.verbosity {
        0 => config.rust_log.as_deref().unwrap_or_default(),
        1 => "datapass_pull=info",
        2 => "datapass_pull=debug",
        _ => "datapass_pull=trace",
    };
    // env_logger would print on standard error what it does not understand.
    let is_understood = env_filter::Builder::new().try_parse(directives).is_ok();
    if is_understood {
        levels.parse_filters(directives);
    }
    (levels.build(), is_understood)
}

impl Log for Logger {
    /// Other crates log nothing below warnings, whatever `RUST_LOG` says.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_allowed = is_own(metadata.target()) || metadata.level() <= Level::Warn;
        is_allowed && self.levels.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) && self.levels.matches(record) {
            // A closed standard error loses lines and nothing else.
            let _ = progress::write_log(line(self.style, record, Utc::now()).as_bytes());
        }
    }

    fn flush(&self) {}
}

/// Whether a target is our crate or one of its modules.
fn is_own(target: &str) -> bool {
    target.strip_prefix(OWN_TARGET).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Formats one event, with the line end.
fn line(style: Style, record: &Record<'_>, now: DateTime<Utc>) -> String {
    let time = now.to_rfc3339_opts(SecondsFormat::Millis, true);
    let message = record.args().to_string();
    let level = record.level().as_str();
    let mut fields = Fields(Map::new());
    if style == Style::Json {
        fields.insert("time", time.as_str().into());
        fields.insert("level", level.into());
        fields.insert("message", message.as_str().into());
        fields.insert("run_id", json!(run_id::current()));
    }
    // The visitor never fails.
    let _ = record.key_values().visit(&mut fields);
    let target = Some(record.target()).filter(|target| !is_own(target));
    if let Some(target) = target {
        fields.insert("target", target.into());
    }
    let mut line = match style {
        Style::Json => escape::json(&Value::Object(fields.0)),
        Style::Terminal => {
            let target = target.map(|target| format!("{}: ", escape(target)));
            let level = match record.level() {
                Level::Warn => "warning".to_owned(),
                _ => level.to_lowercase(),
            };
            format!("{level}: {}{}", target.unwrap_or_default(), escape(&message))
        }
        Style::Text => {
            let mut line = format!("{time} {level} datapass-pull: {}", escape(&message));
            for (key, value) in &fields.0 {
                line += &format!(" {}={}", escape(key), bare(value));
            }
            line
        }
    };
    line.push('\n');
    line
}

/// Returns a value without quotes where it needs none.
fn bare(value: &Value) -> String {
    let needs_quotes = |c: char| c.is_whitespace() || matches!(c, '"' | '=' | '\\') || is_unsafe(c);
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(needs_quotes) => text.clone(),
        value => escape::json(value),
    }
}

/// The key-values of an event; of two with one name the first counts.
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, key: &str, value: Value) {
        self.0.entry(key).or_insert(value);
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: KeyValue<'kvs>) -> Result<(), kv::Error> {
        let field = match value.to_borrowed_str() {
            Some(text) => text.into(),
            // A number or a boolean; an absent option is `None`, which is not valid JSON.
            None => serde_json::from_str(&value.to_string()).unwrap_or(Value::Null),
        };
        if !field.is_null() {
            self.insert(key.as_str(), field);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use log::kv::ToValue;

    use super::*;

    fn config(verbosity: u8, rust_log: &str) -> LogConfig {
        LogConfig { verbosity, rust_log: Some(rust_log.to_owned()), format: Format::Text }
    }

    /// The level that a target ends up with.
    fn level(config: &LogConfig, target: &str) -> LevelFilter {
        let logger = Logger { levels: levels(config).0, style: Style::Text };
        let enabled = |level: &Level| {
            let metadata = Metadata::builder().level(*level).target(target).build();
            logger.enabled(&metadata)
        };
        Level::iter()
            .filter(enabled)
            .max()
            .map_or(LevelFilter::Off, |level| level.to_level_filter())
    }

    #[test]
    fn the_level_applies_to_this_crate_and_others_stay_at_warnings() {
        use LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
        let cases = [
            (0, "", Warn, Warn, Warn),
            (1, "", Info, Info, Warn),
            (2, "", Debug, Debug, Warn),
            (3, "", Trace, Trace, Warn),
            (255, "", Trace, Trace, Warn),
            (0, "debug", Debug, Debug, Warn),
            (0, "off", Off, Off, Off),
            (0, "DEBUG", Debug, Debug, Warn),
            (0, "datapass_pull=info", Info, Info, Warn),
            (0, "datapass_pull", Trace, Trace, Warn),
            (0, "datapass_pull::cycle::list=trace", Warn, Trace, Warn),
            (0, "error,datapass_pull::cycle::list=trace", Error, Trace, Error),
            (0, "hyper=trace,debug", Debug, Debug, Warn),
            (0, "hyper=error", Warn, Warn, Error),
            (0, "trace,hyper::proto=trace", Trace, Trace, Warn),
            (0, "debug/text", Debug, Debug, Warn),
            (0, "nonsense=loud,debug", Warn, Warn, Warn),
            (1, "trace,hyper=error", Info, Info, Warn),
        ];
        for (verbosity, rust_log, own, list, hyper) in cases {
            let config = config(verbosity, rust_log);
            assert_eq!(level(&config, "datapass_pull"), own, "{verbosity} {rust_log}");
            assert_eq!(
                level(&config, "datapass_pull::cycle::list"),
                list,
                "{verbosity} {rust_log}"
            );
            assert_eq!(level(&config, "hyper::proto"), hyper, "{verbosity} {rust_log}");
            assert!(level(&config, "tokio_postgres") <= Warn, "{verbosity} {rust_log}");
        }
    }

    fn logged(style: Style, target: &str, message: &str, pairs: &[(&str, KeyValue<'_>)]) -> String {
        let now = Utc.with_ymd_and_hms(2026, 5, 18, 10, 0, 0).unwrap();
        let source = &pairs;
        let mut builder = Record::builder();
        builder.level(Level::Warn).target(target).key_values(source);
        line(style, &builder.args(format_args!("{message}")).build(), now)
    }

    #[test]
    fn a_text_line_has_time_level_message_and_fields() {
        let pairs = [
            ("stage", KeyValue::from("list")),
            ("page", KeyValue::from(3_u64)),
            ("last", KeyValue::from(true)),
            ("why", KeyValue::from("no \"luck\"")),
            ("none", KeyValue::from("")),
        ];
        assert_eq!(
            logged(Style::Text, "datapass_pull::cycle::list", "Page read", &pairs),
            "2026-05-18T10:00:00.000Z WARN datapass-pull: Page read stage=list page=3 last=true \
             why=\"no \\\"luck\\\"\" none=\"\"\n"
        );
        assert_eq!(
            logged(Style::Terminal, "datapass_pull", "Page read", &pairs),
            "warning: Page read\n"
        );
        assert_eq!(logged(Style::Terminal, "hyper", "Odd", &[]), "warning: hyper: Odd\n");
        assert_eq!(
            logged(Style::Text, "hyper", "Odd", &[]),
            "2026-05-18T10:00:00.000Z WARN datapass-pull: Odd target=hyper\n"
        );
    }

    #[test]
    fn a_json_line_has_the_fields_at_its_top_level() {
        let pairs = [
            ("stage", KeyValue::from("list")),
            ("page", KeyValue::from(3_u64)),
            ("offset", KeyValue::from(-1_i64)),
            ("ratio", KeyValue::from(0.5)),
            ("sqlstate", KeyValue::from("23505")),
            ("last", KeyValue::from(true)),
            ("level", KeyValue::from("forged")),
            ("stage", KeyValue::from("forged")),
            ("run_id", KeyValue::from("forged")),
            ("absent", None::<u64>.to_value()),
            ("present", Some(3_u64).to_value()),
        ];
        let line = logged(Style::Json, "datapass_pull", "Page read", &pairs);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "time": "2026-05-18T10:00:00.000Z", "level": "WARN", "message": "Page read",
            "run_id": run_id::current(), "stage": "list", "page": 3, "offset": -1, "ratio": 0.5,
            "sqlstate": "23505",
            "last": true, "present": 3,
        });
        assert_eq!(json, expected);
        assert!(line.starts_with("{\"time\":") && !line.contains("forged"), "{line}");
    }

    #[test]
    fn remote_text_cannot_forge_a_line() {
        let evil =
            "a\n2026 ERROR\r\u{1b}[31m\u{7f}\u{9b}\u{202e}\u{2066}\u{2028}\u{200b}\u{e0041}é\u{0}b";
        let pairs = [("k\ne=y", KeyValue::from(evil)), ("ok", KeyValue::from("é"))];
        for style in [Style::Terminal, Style::Text, Style::Json] {
            let line = logged(style, "datapass_pull", evil, &pairs);
            let body = line.strip_suffix('\n').unwrap();
            assert!(!body.contains(is_unsafe), "{line:?}");
            assert!(body.contains('é'), "{line:?}");
        }
        let line = logged(Style::Json, "datapass_pull", evil, &pairs);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["message"], evil);
        assert_eq!(json["k\ne=y"], evil);
    }
}
