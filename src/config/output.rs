//! The formats of the output and the log.

use strum::{EnumString, VariantNames};

use super::settings::Settings;
use super::values;

/// `text` or `json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Format {
    /// For people and shells.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// How to log.
#[derive(Debug, Clone, Default)]
pub struct LogConfig {
    /// How often `-v` was given.
    pub verbosity: u8,
    /// `RUST_LOG`, as found.
    pub rust_log: Option<String>,
    /// `DATAPASS_LOG_FORMAT`: the format of a line.
    pub format: Format,
}

impl Settings {
    /// Finds out how to log; text where the format is not understood.
    pub(super) fn find_log(&mut self) -> LogConfig {
        let format = self.text("DATAPASS_LOG_FORMAT", values::word);
        LogConfig {
            verbosity: self.options.verbosity(),
            rust_log: self.text("RUST_LOG", |text| Ok(text.to_owned())),
            format: format.unwrap_or_default(),
        }
    }

    /// Finds the format of the output; text for a command without `--format`, and where it is not
    /// understood.
    pub(super) fn find_format(&mut self) -> Format {
        if !self.options.has("format") {
            return Format::Text;
        }
        self.text("DATAPASS_FORMAT", values::word).unwrap_or_default()
    }
}
