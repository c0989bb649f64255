//! The log: one event a line on standard error, in text or JSON.
//!
//! Our own crate's level is set by `-v` or `RUST_LOG`; every other crate is held at warnings,
//! because libraries print requests and rows below that. Messages may hold remote text, so that
//! nothing in them can end a line, forge one, or drive a terminal.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use chrono::{DateTime, SecondsFormat, Utc};
use env_logger::Target;
use log::kv::{self, Key, Value, VisitSource, VisitValue};
use log::{LevelFilter, Record};

use crate::config::{Format, LogConfig};
use crate::output::escape::{self, escape, is_unsafe};
use crate::output::progress;
use crate::process::run_id;

/// The target of our own events; those of our modules begin with it.
const OWN_TARGET: &str = "datapass_pull";

/// Sets up the log of the process; a second call does nothing.
///
/// A closed standard error loses lines and nothing else.
pub fn init(config: &LogConfig) {
    let mut builder = env_logger::Builder::new();
    for (target, level) in levels(config) {
        builder.filter(target.as_deref(), level);
    }
    let format = config.format;
    builder.format(move |out, record| out.write_all(line(format, record, Utc::now()).as_bytes()));
    builder.target(Target::Pipe(Box::new(StandardError)));
    // It fails only when a log is there already.
    let _ = builder.try_init();
}

/// Takes whole events, and writes each at once.
struct StandardError;

impl io::Write for StandardError {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        progress::write_log(event).map(|()| event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the level of each target, the one of all others under `None`.
///
/// `RUST_LOG` is a list of `LEVEL`, `TARGET=LEVEL` and `TARGET`, as `env_logger` reads it; a bare
/// level is that of our own crate. What is not understood is passed over.
fn levels(config: &LogConfig) -> Vec<(Option<String>, LevelFilter)> {
    let own = Some(OWN_TARGET.to_owned());
    let mut levels = vec![(None, LevelFilter::Warn), (own.clone(), LevelFilter::Warn)];
    let directives = config.rust_log.as_deref().unwrap_or_default();
    // A filter on messages may follow a slash; it is not supported, and must not become a target.
    let directives = directives.split('/').next().unwrap_or_default();
    for directive in directives
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        let (target, level) = match directive.split_once('=') {
            Some((target, level)) => match level.trim().parse() {
                Ok(level) => (Some(target.trim().to_owned()), level),
                Err(_) => continue,
            },
            None => match directive.parse() {
                Ok(level) => (own.clone(), level),
                Err(_) => (Some(directive.to_owned()), LevelFilter::Trace),
            },
        };
        let is_own = target.as_deref().is_some_and(is_own);
        let level = if is_own {
            level
        } else {
            level.min(LevelFilter::Warn)
        };
        levels.push((target, level));
    }
    let verbose = match config.verbosity {
        0 => return levels,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    levels.retain(|(target, _)| !target.as_deref().is_some_and(is_own));
    levels.push((own, verbose));
    levels
}

/// Tells whether a target is our crate or one of its modules.
fn is_own(target: &str) -> bool {
    target
        .strip_prefix(OWN_TARGET)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Formats one event, with the line end.
fn line(format: Format, record: &Record<'_>, now: DateTime<Utc>) -> String {
    let time = now.to_rfc3339_opts(SecondsFormat::Millis, true);
    let message = record.args().to_string();
    let mut fields = Fields(Vec::new());
    // A visitor that never fails and values in memory: there is no error to tell.
    let _ = record.key_values().visit(&mut fields);
    if !is_own(record.target()) {
        fields
            .0
            .push(("target".to_owned(), Field::Text(record.target().to_owned())));
    }
    match format {
        Format::Text => text_line(&time, record, &message, fields),
        Format::Json => json_line(&time, record, &message, fields),
    }
}

fn text_line(time: &str, record: &Record<'_>, message: &str, fields: Fields) -> String {
    let mut line = format!(
        "{time} {} datapass-pull: {}",
        record.level(),
        escape(message)
    );
    for (key, field) in fields.0 {
        let value = match field {
            Field::Text(text) if is_bare(&text) => text,
            Field::Text(text) => json_text(&text),
            Field::Literal(literal) => literal,
        };
        // Writing to a String does not fail.
        let _ = write!(line, " {}={value}", escape(&key));
    }
    line.push('\n');
    line
}

fn json_line(time: &str, record: &Record<'_>, message: &str, fields: Fields) -> String {
    let mut line = format!(
        r#"{{"time":"{time}","level":"{}","message":{},"run_id":"{}""#,
        record.level(),
        json_text(message),
        run_id::current()
    );
    let mut seen = vec![
        "time".to_owned(),
        "level".into(),
        "message".into(),
        "run_id".into(),
    ];
    for (key, field) in fields.0 {
        if seen.contains(&key) {
            continue;
        }
        let value = match field {
            Field::Text(text) => json_text(&text),
            Field::Literal(literal) => literal,
        };
        let _ = write!(line, ",{}:{value}", json_text(&key));
        seen.push(key);
    }
    line.push_str("}\n");
    line
}

/// The key-values of an event.
struct Fields(Vec<(String, Field)>);

enum Field {
    /// Needs quotes in JSON.
    Text(String),
    /// A number, `true`, `false` or `null`, the same in both forms.
    Literal(String),
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let mut field = None;
        value.visit(FieldOf(&mut field))?;
        self.0.extend(field.map(|field| (key.to_string(), field)));
        Ok(())
    }
}

/// Finds the form of a value; one that is absent, as an option may be, has none.
struct FieldOf<'a>(&'a mut Option<Field>);

impl<'v> VisitValue<'v> for FieldOf<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        let text = value.to_string();
        let finite = value.to_f64().is_some_and(f64::is_finite);
        let is_number = value.to_u64().is_some() || value.to_i64().is_some() || finite;
        *self.0 = Some(if value.to_bool().is_some() || is_number {
            Field::Literal(text)
        } else {
            Field::Text(text)
        });
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(())
    }
}

fn json_text(text: &str) -> String {
    escape::json(&text.into())
}

/// Tells whether a value needs no quotes in the text form.
fn is_bare(text: &str) -> bool {
    let needs_quotes = |c: char| c.is_whitespace() || matches!(c, '"' | '=' | '\\') || is_unsafe(c);
    !text.is_empty() && !text.contains(needs_quotes)
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use log::Level;
    use log::kv::ToValue;

    use super::*;

    fn config(verbosity: u8, rust_log: &str) -> LogConfig {
        LogConfig {
            verbosity,
            rust_log: Some(rust_log.to_owned()),
            format: Format::Text,
        }
    }

    /// The level that a target ends up with, by the filter that is really used.
    fn level(config: &LogConfig, target: &str) -> LevelFilter {
        let mut builder = env_logger::Builder::new();
        for (target, level) in levels(config) {
            builder.filter(target.as_deref(), level);
        }
        let logger = builder.build();
        let enabled = |level: &Level| {
            let metadata = log::Metadata::builder()
                .level(*level)
                .target(target)
                .build();
            log::Log::enabled(&logger, &metadata)
        };
        Level::iter()
            .filter(enabled)
            .max()
            .map_or(LevelFilter::Off, |level| level.to_level_filter())
    }

    #[test]
    fn our_level_is_free_and_others_stay_at_warnings() {
        use LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
        let cases = [
            (0, "", Warn, Warn, Warn),
            (1, "", Info, Info, Warn),
            (2, "", Debug, Debug, Warn),
            (3, "", Trace, Trace, Warn),
            (255, "", Trace, Trace, Warn),
            (0, "debug", Debug, Debug, Warn),
            (0, "off", Off, Off, Warn),
            (0, "DEBUG", Debug, Debug, Warn),
            (0, "datapass_pull=info", Info, Info, Warn),
            (0, "datapass_pull", Trace, Trace, Warn),
            (0, "datapass_pull::cycle::list=trace", Warn, Trace, Warn),
            (
                0,
                " error , datapass_pull::cycle::list = trace ",
                Error,
                Trace,
                Warn,
            ),
            (0, "hyper=trace,debug", Debug, Debug, Warn),
            (0, "hyper", Warn, Warn, Warn),
            (0, "hyper=error", Warn, Warn, Error),
            (0, "trace,hyper::proto=trace", Trace, Trace, Warn),
            (0, "nonsense=loud,debug/regex,trace", Debug, Debug, Warn),
            (0, "=trace", Warn, Warn, Warn),
            (0, ",,", Warn, Warn, Warn),
            (
                1,
                "trace,datapass_pull::cycle::list=trace,hyper=error",
                Info,
                Info,
                Error,
            ),
        ];
        for (verbosity, rust_log, own, list, hyper) in cases {
            let config = config(verbosity, rust_log);
            assert_eq!(
                level(&config, "datapass_pull"),
                own,
                "{verbosity} {rust_log}"
            );
            assert_eq!(
                level(&config, "datapass_pull::cycle::list"),
                list,
                "{verbosity} {rust_log}"
            );
            assert_eq!(
                level(&config, "hyper::proto"),
                hyper,
                "{verbosity} {rust_log}"
            );
            assert!(
                level(&config, "tokio_postgres") <= Warn,
                "{verbosity} {rust_log}"
            );
        }
    }

    fn logged(format: Format, target: &str, message: &str, pairs: &[(&str, Value<'_>)]) -> String {
        let now = Utc.with_ymd_and_hms(2026, 5, 18, 10, 0, 0).unwrap();
        let source = &pairs;
        let mut builder = Record::builder();
        builder.level(Level::Warn).target(target).key_values(source);
        line(
            format,
            &builder.args(format_args!("{message}")).build(),
            now,
        )
    }

    #[test]
    fn a_text_line_has_time_level_message_and_fields() {
        let pairs = [
            ("stage", Value::from("list")),
            ("page", Value::from(3_u64)),
            ("last", Value::from(true)),
            ("why", Value::from("no \"luck\"")),
            ("none", Value::from("")),
        ];
        assert_eq!(
            logged(
                Format::Text,
                "datapass_pull::cycle::list",
                "Page read",
                &pairs
            ),
            "2026-05-18T10:00:00.000Z WARN datapass-pull: Page read stage=list page=3 last=true \
             why=\"no \\\"luck\\\"\" none=\"\"\n"
        );
        assert_eq!(
            logged(Format::Text, "hyper", "Odd", &[]),
            "2026-05-18T10:00:00.000Z WARN datapass-pull: Odd target=hyper\n"
        );
    }

    #[test]
    fn a_json_line_has_the_fields_at_its_top() {
        let pairs = [
            ("stage", Value::from("list")),
            ("page", Value::from(3_u64)),
            ("offset", Value::from(-1_i64)),
            ("ratio", Value::from(0.5)),
            ("nan", Value::from(f64::NAN)),
            ("last", Value::from(true)),
            ("level", Value::from("forged")),
            ("stage", Value::from("forged")),
            ("run_id", Value::from("forged")),
            ("absent", None::<u64>.to_value()),
            ("present", Some(3_u64).to_value()),
        ];
        let line = logged(Format::Json, "datapass_pull", "Page read", &pairs);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "time": "2026-05-18T10:00:00.000Z", "level": "WARN", "message": "Page read",
            "run_id": run_id::current(), "stage": "list", "page": 3, "offset": -1, "ratio": 0.5,
            "nan": "NaN", "last": true, "present": 3,
        });
        assert_eq!(json, expected);
        assert!(
            line.starts_with("{\"time\":") && !line.contains("forged"),
            "{line}"
        );
    }

    #[test]
    fn remote_text_cannot_forge_a_line() {
        let evil =
            "a\n2026 ERROR\r\u{1b}[31m\u{7f}\u{9b}\u{202e}\u{2066}\u{2028}\u{200b}\u{e0041}é\u{0}b";
        let pairs = [("k\ne=y", Value::from(evil)), ("ok", Value::from("é"))];
        for format in [Format::Text, Format::Json] {
            let line = logged(format, "datapass_pull", evil, &pairs);
            let body = line.strip_suffix('\n').unwrap();
            assert!(!body.contains(is_unsafe), "{line:?}");
            assert!(body.contains('é'), "{line:?}");
        }
        let line = logged(Format::Json, "datapass_pull", evil, &pairs);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["message"], evil);
        assert_eq!(json["k\ne=y"], evil);
    }
}
