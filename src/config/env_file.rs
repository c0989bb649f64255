//! Parses an env file: `NAME=value` lines as systemd reads them, `$` included, which is literal.

/// One entry, or the number of a line that cannot be read.
type Entry<'a> = Result<(&'a str, String), usize>;

/// Parses the whole text, going on after a bad line.
///
/// A value ends at the line's end or before a comment. Single quotes keep everything, double quotes
/// all but a backslash before `"`, `\`, `$` or `` ` ``; both may span lines.
pub(super) fn parse(text: &str) -> Vec<Entry<'_>> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut entries = vec![];
    while !rest.is_empty() {
        let (line, mut behind) = rest.split_once('\n').unwrap_or((rest, ""));
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            let read = text.strip_suffix(rest).unwrap_or_default();
            let entry = entry(rest).ok_or_else(|| read.matches('\n').count() + 1);
            entries.push(entry.map(|(name, value, behind_entry)| {
                behind = behind_entry;
                (name, value)
            }));
        }
        rest = behind;
    }
    entries
}

/// Reads the entry that the text begins with; returns its name, its value and what follows its line.
fn entry(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    let name = name.trim();
    let name = name.strip_prefix("export ").map_or(name, str::trim_start);
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let is_digit = |c: char| c.is_ascii_digit();
    if name.is_empty() || name.starts_with(is_digit) || !name.chars().all(is_in_name) {
        return None;
    }
    let mut value = String::new();
    if let Some(behind) = line_end(rest) {
        return Some((name, value, behind));
    }
    let mut chars = rest.trim_start().chars();
    let mut quote = None;
    loop {
        let rest = chars.as_str();
        match (quote, chars.next()) {
            (None, None) => return Some((name, value, rest)),
            (Some(_), None) => return None,
            (None, Some(c)) if c.is_whitespace() => return Some((name, value, line_end(rest)?)),
            (None, Some(c @ ('\'' | '"'))) => quote = Some(c),
            (None, Some('\\')) => value.push(chars.next().filter(|c| !c.is_control())?),
            (Some(open), Some(c)) if c == open => quote = None,
            (Some('"'), Some('\\')) => {
                value.push(chars.next().filter(|c| r#""\$`"#.contains(*c))?);
            }
            (_, Some(c)) => value.push(c),
        }
    }
}

/// Returns what follows the line, when the line has no more than blanks and a comment behind them.
fn line_end(text: &str) -> Option<&str> {
    let (line, behind) = text.split_once('\n').unwrap_or((text, ""));
    let comment = line.trim_start();
    let is_end = comment.is_empty() || (comment.starts_with('#') && comment.len() < line.len());
    is_end.then_some(behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::variables::VARIABLES;

    #[test]
    fn the_template_sets_nothing() {
        let entries = parse(include_str!("../../.env.template"));
        let entries: Vec<_> = entries.into_iter().map(Result::unwrap).collect();
        let required = VARIABLES.iter().filter(|variable| variable.required);
        let expected: Vec<_> = required.map(|it| (it.name, String::new())).collect();
        assert_eq!(entries, expected);
    }

    #[test]
    fn a_value_is_parsed_as_systemd_does() {
        for (line, expected) in [
            ("A=", ""),
            ("A=x", "x"),
            ("  A = x  ", "x"),
            ("export A=x", "x"),
            ("A=p$w#d", "p$w#d"),
            ("A=${B}$(c)", "${B}$(c)"),
            ("A=x # comment", "x"),
            ("A= # comment", ""),
            ("A=#x", "#x"),
            (r"A=5\ 4\ *\\", r"5 4 *\"),
            (r"A=a\#b", "a#b"),
            ("A='p$w \\n \"#' # it's", "p$w \\n \"#"),
            (r#"A="a \"b\" \\ \$c \` 'd'""#, r#"a "b" \ $c ` 'd'"#),
            ("A='it'\\''s'", "it's"),
            ("A='two\n$lines'", "two\n$lines"),
            ("A=''", ""),
            ("A=x\r", "x"),
            ("A=a=b", "a=b"),
        ] {
            for text in [format!("{line}\nB=1"), format!("{line}\n# B\nB=1\n")] {
                let expected = [Ok(("A", expected.to_owned())), Ok(("B", "1".to_owned()))];
                assert_eq!(parse(&text), expected, "{text}");
            }
            assert_eq!(parse(line), [Ok(("A", expected.to_owned()))], "{line}");
        }
        assert_eq!(parse("\u{feff}\n# A=1\n \nB.c=1"), [Ok(("B.c", "1".to_owned()))]);
    }

    #[test]
    fn an_invalid_line_is_reported_by_number_and_the_others_are_read() {
        for bad in [
            "hunter2",
            "A",
            "=x",
            "-A=x",
            "1A=x",
            "A B=x",
            "A=x y",
            "A='x' y",
            "A='x",
            "A=\"x",
            "A=\"x\\q\"",
            "A=x\\",
            "export",
            "É=x",
        ] {
            let text = format!("A=1\n\nB='\n'\n{bad}\nC=2");
            let entries = parse(&text);
            assert_eq!(entries[..2].len(), 2, "{bad}");
            assert_eq!(entries[2], Err(5), "{bad}");
            assert_eq!(entries.last(), Some(&Ok(("C", "2".to_owned()))), "{bad}");
        }
        assert_eq!(
            parse("A='x\n'\nx\ny=1\nz"),
            [Ok(("A", "x\n".to_owned())), Err(3), Ok(("y", "1".to_owned())), Err(5)]
        );
    }
}
