//! Fits what commands print to a terminal of 80 columns.

use crate::output::escape::escape;

/// The columns of a terminal that was not widened.
const COLUMNS: usize = 80;

/// Writes a value behind its label, with a line end; words that do not fit go on below the value.
///
/// A word is never broken, so that an id can be copied. The value may be remote text: it is escaped.
pub fn entry(label: &str, value: &str) -> String {
    let mut text = label.to_owned();
    let mut width = label.len();
    for (at, word) in escape(value).split(' ').enumerate() {
        let length = word.chars().count();
        if at > 0 && width + 1 + length > COLUMNS {
            text.push('\n');
            text.push_str(&" ".repeat(label.len()));
            width = label.len();
        } else if at > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += length;
    }
    text.push('\n');
    text
}

/// Writes fields below each other, the values in one column.
pub fn fields(fields: &[(&str, String)]) -> String {
    fields.iter().map(|(name, value)| entry(&format!("{name:<14}"), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_wrapped_between_words() {
        assert_eq!(entry("rejected  ", "3"), "rejected  3\n");
        assert_eq!(entry("held by  ", "a  b\n\u{1b}"), "held by  a  b\\n\\u{1b}\n");
        let long = "x".repeat(90);
        assert_eq!(
            entry("held by  ", &format!("D5 {long} {}", "word ".repeat(15))),
            format!(
                "held by  D5\n         {long}\n         {}\n         word \n",
                ["word"; 14].join(" ")
            )
        );
    }
}
