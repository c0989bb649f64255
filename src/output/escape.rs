//! Makes remote text harmless where it is shown: in the log, and in answers on a terminal.

use serde_json::Value;

/// Makes a text harmless for a line of log or a table on a terminal: characters that end a line,
/// control a terminal, change the direction of text or do not show are written as `\u{…}`.
pub fn escape(text: &str) -> String {
    replace_unsafe(text, |c| match c {
        '\n' | '\r' | '\t' => c.escape_default().collect(),
        c => c.escape_unicode().collect(),
    })
}

/// Writes JSON on one line that is as harmless as [`escape`] makes a text, and reads back the same.
pub fn json(value: &Value) -> String {
    // An unsafe character is part of a string, since nothing else has any.
    replace_unsafe(&value.to_string(), |c| {
        let mut units = [0; 2];
        c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
    })
}

fn replace_unsafe(text: &str, written: impl Fn(char) -> String) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match is_unsafe(c) {
            true => safe.push_str(&written(c)),
            false => safe.push(c),
        }
    }
    safe
}

/// Whether a character can end or forge a line, control a terminal, or hide.
///
/// Controls (C0, DEL, C1), line and paragraph separators, the bidirectional controls of UAX #9,
/// zero-width characters, tags, and marks of annotation.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escape("a\n\u{1b}é"), "a\\n\\u{1b}é");
        assert_eq!(escape("plain é"), "plain é");
    }

    proptest! {
        #[test]
        fn any_text_is_harmless_and_json_reads_back(
            text in "(\\PC|[\u{0}-\u{9f}\u{200b}-\u{2069}\u{feff}\u{fff9}\u{e0041}\"\\\\]){0,20}"
        ) {
            prop_assert!(!escape(&text).contains(is_unsafe));
            let value = serde_json::json!({ &*text: [&text] });
            let json = json(&value);
            prop_assert!(!json.contains(is_unsafe), "{}", json);
            let read: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read, value);
        }
    }
}
