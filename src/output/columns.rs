//! Fits what commands say to a terminal of 80 columns.

use textwrap::{Options, fill};

use crate::output::escape::escape;

/// The columns of a terminal that nobody has widened.
const COLUMNS: usize = 80;

/// Writes a value behind its label, with a line end; what does not fit goes on below the value.
///
/// The value may be remote text: it is escaped, and measured as a terminal shows it.
pub fn entry(label: &str, value: &str) -> String {
    let indent = " ".repeat(label.len());
    let options = Options::new(COLUMNS)
        .initial_indent(label)
        .subsequent_indent(&indent);
    format!("{}\n", fill(&escape(value), options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_go_on_below_and_nothing_is_wider() {
        assert_eq!(entry("missing  ", "3"), "missing  3\n");
        for value in [
            "word ".repeat(40),
            "x".repeat(200),
            "界".repeat(90),
            "a\nb\u{1b}".repeat(30),
        ] {
            let text = entry("held by  ", &value);
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines.len() > 1, "{text}");
            assert!(
                lines[1..].iter().all(|line| line.starts_with("         ")),
                "{text}"
            );
            let wide = |line: &&str| textwrap::core::display_width(line) > COLUMNS;
            assert!(!lines.iter().any(wide), "{text}");
            assert!(!text.contains('\u{1b}'), "{text}");
        }
    }
}
