//! The five fields of cron: checked strictly, and taken apart so that systemd can have them too.
//!
//! The language is what Vixie cron, cronie and Kubernetes all read alike: numbers, names, lists,
//! ranges, and steps over a range or `*` (crontab(5)). What only some of them take (`@daily`,
//! `5/10`, `?`, `L`, a range that wraps) is refused: an entry must not mean something else elsewhere.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The minutes of a day.
const MINUTES_PER_DAY: u64 = 24 * 60;

/// The days that a month has at most, January first.
const LONGEST_DAYS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// An expression: when a cycle starts, in UTC. It is printed in the numbers that every cron reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    pub(crate) minutes: Field,
    pub(crate) hours: Field,
    pub(crate) days: Field,
    pub(crate) months: Field,
    /// 0 is Sunday; there is no 7.
    pub(crate) weekdays: Field,
}

/// One field: its values in ascending order, and how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) values: Vec<u8>,
    pub(crate) shape: Shape,
    text: String,
}

/// How a field was written, which for the two day fields decides how they combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `*` and nothing else.
    Any,
    /// A `*` with something else, such as `*/2`.
    Stepped,
    /// Values and ranges.
    Listed,
}

/// What a field may hold.
struct Kind {
    name: &'static str,
    min: u8,
    max: u8,
    /// The names, the first for `min`.
    names: &'static [&'static str],
    allowed: &'static str,
}

const MINUTE: Kind = Kind {
    name: "minute",
    min: 0,
    max: 59,
    names: &[],
    allowed: "0 to 59",
};
const HOUR: Kind = Kind {
    name: "hour",
    min: 0,
    max: 23,
    names: &[],
    allowed: "0 to 23",
};
const DAY: Kind = Kind {
    name: "day of month",
    min: 1,
    max: 31,
    names: &[],
    allowed: "1 to 31",
};
const MONTH: Kind = Kind {
    name: "month",
    min: 1,
    max: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
    allowed: "1 to 12 or JAN to DEC",
};
const WEEKDAY: Kind = Kind {
    name: "day of week",
    min: 0,
    max: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    allowed: "0 to 7 (0 and 7 are Sunday) or SUN to SAT",
};

impl FromStr for Cron {
    /// The end of a sentence that begins with the setting's name: every bad field and what it may
    /// hold, but nothing of a text that is no expression.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.first().is_some_and(|word| word.starts_with('@')) {
            return Err(
                "is a nickname, which not every scheduler knows: write five fields, such as \
                 `0 0 * * *` for @daily"
                    .to_owned(),
            );
        }
        let &[minute, hour, day, month, weekday] = words.as_slice() else {
            return Err(format!(
                "has {} words, and cron has five fields (minute, hour, day of month, month, day of \
                 week; no seconds, no year)",
                words.len()
            ));
        };

        let mut problems = Vec::new();
        let mut read = |kind: &Kind, word: &str| {
            Field::parse(kind, word)
                .map_err(|problem| problems.push(problem))
                .ok()
        };
        let fields = (
            read(&MINUTE, minute),
            read(&HOUR, hour),
            read(&DAY, day),
            read(&MONTH, month),
            read(&WEEKDAY, weekday),
        );
        let (Some(minutes), Some(hours), Some(days), Some(months), Some(weekdays)) = fields else {
            return Err(format!("has {}", problems.join(", and ")));
        };
        let cron = Self {
            minutes,
            hours,
            days,
            months,
            weekdays,
        };
        cron.check_days()?;
        Ok(cron)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [
            &self.minutes,
            &self.hours,
            &self.days,
            &self.months,
            &self.weekdays,
        ];
        f.write_str(&fields.map(|field| field.text.as_str()).join(" "))
    }
}

impl Cron {
    /// Refuses day fields that never match, or that schedulers combine differently.
    fn check_days(&self) -> Result<(), String> {
        use Shape::{Any, Listed, Stepped};
        match (self.days.shape, self.weekdays.shape) {
            // Vixie cron demands both days when a field begins with `*`, Kubernetes either.
            (Stepped, Stepped | Listed) | (Listed, Stepped) => Err(format!(
                "sets the day of month `{}` and the day of week `{}`, one of them with a `*`: \
                 some schedulers then want both to match, others either; write that field \
                 without `*`, or the other one as `*`",
                self.days.text, self.weekdays.text
            )),
            (Listed, Any) if !self.has_a_day() => Err(format!(
                "sets the day of month `{}`, which does not exist in the month `{}`: nothing \
                 would ever run",
                self.days.text, self.months.text
            )),
            _ => Ok(()),
        }
    }

    fn has_a_day(&self) -> bool {
        self.months.values.iter().any(|&month| {
            let longest = LONGEST_DAYS[usize::from(month) - 1];
            self.days.values.iter().any(|&day| day <= longest)
        })
    }

    /// Returns the shortest time that can pass between two starts, at least a minute.
    ///
    /// Days are taken as if all matched, so the real gap may be longer, never shorter.
    pub(crate) fn shortest_gap(&self) -> Duration {
        let starts: Vec<u64> = self
            .hours
            .values
            .iter()
            .flat_map(|&hour| {
                self.minutes
                    .values
                    .iter()
                    .map(move |&minute| u64::from(hour) * 60 + u64::from(minute))
            })
            .collect();
        let next_day = starts.first().map(|first| first + MINUTES_PER_DAY);
        let minutes = starts
            .iter()
            .zip(starts.iter().skip(1).chain(next_day.as_ref()))
            .map(|(start, next)| next - start)
            .min()
            .unwrap_or(MINUTES_PER_DAY);
        Duration::from_secs(minutes * 60)
    }
}

impl Field {
    fn parse(kind: &Kind, text: &str) -> Result<Self, String> {
        let mut values = Vec::new();
        for element in text.split(',') {
            let found = kind.element(element).map_err(|why| {
                format!(
                    "a bad {} ({why}; allowed: {}, `*`, lists `1,2`, ranges `1-5`, steps `*/2` and \
                     `1-5/2`)",
                    kind.name, kind.allowed
                )
            })?;
            values.extend(found);
        }
        if kind.max == WEEKDAY.max {
            for value in &mut values {
                *value %= 7;
            }
        }
        values.sort_unstable();
        values.dedup();

        let shape = match text {
            "*" | "*/1" => Shape::Any,
            _ if text.contains('*') => Shape::Stepped,
            _ => Shape::Listed,
        };
        // Kubernetes knows no 7 for Sunday, and some daemons no names in lists and ranges.
        let foreign = text.contains(|c: char| c.is_ascii_alphabetic())
            || (kind.max == WEEKDAY.max && text.contains('7'));
        let text = if foreign {
            compact(&values, "-", u8::to_string)
        } else {
            text.to_owned()
        };
        Ok(Self {
            values,
            shape,
            text,
        })
    }
}

impl Kind {
    /// Reads one element of a list.
    fn element(&self, text: &str) -> Result<impl Iterator<Item = u8> + use<>, String> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (text, None),
        };
        let (first, last) = if range == "*" {
            // A second Sunday would give a step one more value than it has.
            (self.min, if self.max == WEEKDAY.max { 6 } else { self.max })
        } else if let Some((first, last)) = range.split_once('-') {
            let (first, last) = (self.value(first)?, self.value(last)?);
            if first > last {
                let sunday = if self.max == WEEKDAY.max && last == 0 {
                    ", and Sunday at the end is 7"
                } else {
                    ""
                };
                return Err(format!("a range ends before it begins{sunday}"));
            }
            (first, last)
        } else if step.is_some() {
            return Err("a step needs a range or `*`".to_owned());
        } else {
            let value = self.value(range)?;
            (value, value)
        };
        let step = match step {
            None => 1,
            Some(step) => number(step)
                .filter(|step| (1..=self.max).contains(step))
                .ok_or_else(|| format!("a step is not from 1 to {}", self.max))?,
        };
        Ok((first..=last).step_by(usize::from(step)))
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let named = (self.min..)
            .zip(self.names)
            .find(|(_, name)| name.eq_ignore_ascii_case(text))
            .map(|(value, _)| value);
        named
            .or_else(|| number(text))
            .filter(|value| (self.min..=self.max).contains(value))
            .ok_or_else(|| "an unknown value".to_owned())
    }
}

/// Reads digits alone: `+5` is a number to Rust and none to cron.
fn number(text: &str) -> Option<u8> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// Writes ascending values as a list, three and more in a row as a range joined by `dash`.
pub(crate) fn compact(values: &[u8], dash: &str, show: impl Fn(&u8) -> String) -> String {
    values
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| match run {
            [first, _, .., last] => format!("{}{dash}{}", show(first), show(last)),
            short => short.iter().map(&show).collect::<Vec<_>>().join(","),
        })
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Cron {
        text.parse()
            .unwrap_or_else(|problem| panic!("{text}: {problem}"))
    }

    fn refused(text: &str) -> String {
        text.parse::<Cron>().expect_err(text)
    }

    #[test]
    fn fields_are_read_as_crontab_5_says() {
        for (text, minutes) in [
            ("0", vec![0]),
            ("05", vec![5]),
            ("*/20", vec![0, 20, 40]),
            ("5,1,5", vec![1, 5]),
            ("1-4", vec![1, 2, 3, 4]),
            ("10-30/10", vec![10, 20, 30]),
            ("*/30,7", vec![0, 7, 30]),
            ("58-59,0-1", vec![0, 1, 58, 59]),
        ] {
            assert_eq!(
                parse(&format!("{text} * * * *")).minutes.values,
                minutes,
                "{text}"
            );
        }
        for (text, weekdays) in [
            ("*", vec![0, 1, 2, 3, 4, 5, 6]),
            ("7", vec![0]),
            ("0,7", vec![0]),
            ("MON-fri", vec![1, 2, 3, 4, 5]),
            ("5-7", vec![0, 5, 6]),
            ("Sun,WED", vec![0, 3]),
            ("*/2", vec![0, 2, 4, 6]),
            ("1-7/2", vec![0, 1, 3, 5]),
        ] {
            assert_eq!(
                parse(&format!("0 1 * * {text}")).weekdays.values,
                weekdays,
                "{text}"
            );
        }
        assert_eq!(parse("*,5 * * * *").minutes.values.len(), 60);
        assert_eq!(parse("0 1 * JAN,oct-DEC *").months.values, [1, 10, 11, 12]);
        assert_eq!(parse("\t0  1 * * *\n").to_string(), "0 1 * * *");
    }

    #[test]
    fn names_and_the_second_sunday_are_written_as_numbers() {
        for (text, wanted) in [
            ("0 1 * * *", "0 1 * * *"),
            ("*/15 8-18 1,15 * *", "*/15 8-18 1,15 * *"),
            ("0 1 * JAN-MAR MON-FRI", "0 1 * 1-3 1-5"),
            ("0 1 * * 7", "0 1 * * 0"),
            ("0 1 * * 5-7", "0 1 * * 0,5,6"),
            ("0 1 1 * 1-7", "0 1 1 * 0-6"),
            ("0 1 * feb,MAR *", "0 1 * 2,3 *"),
        ] {
            assert_eq!(parse(text).to_string(), wanted);
            assert_eq!(parse(wanted).to_string(), wanted);
        }
    }

    #[test]
    fn what_is_not_cron_is_refused_by_field() {
        for (text, names) in [
            ("60 1 * * *", "minute"),
            ("-1 1 * * *", "minute"),
            ("+1 1 * * *", "minute"),
            ("1,,2 1 * * *", "minute"),
            ("/5 1 * * *", "minute"),
            ("5/10 1 * * *", "minute"),
            ("*/0 1 * * *", "minute"),
            ("*/60 1 * * *", "minute"),
            ("1-5/2/2 1 * * *", "minute"),
            ("300 1 * * *", "minute"),
            ("0 24 * * *", "hour"),
            ("0 22-2 * * *", "hour"),
            ("0 x * * *", "hour"),
            ("0 1 0 * *", "day of month"),
            ("0 1 32 * *", "day of month"),
            ("0 1 L * *", "day of month"),
            ("0 1 ? * *", "day of month"),
            ("0 1 * 13 *", "month"),
            ("0 1 * 0 *", "month"),
            ("0 1 * MON *", "month"),
            ("0 1 * * 8", "day of week"),
            ("0 1 * * MON#1", "day of week"),
            ("0 1 * * JAN", "day of week"),
            ("0 1 * * monday", "day of week"),
            ("0 1 * * FRI-SUN", "Sunday at the end is 7"),
            ("0 1 \u{a0} * *", "day of month"),
        ] {
            let problem = refused(text);
            assert!(problem.contains(names), "{text}: {problem}");
            assert!(problem.contains("allowed: "), "{text}: {problem}");
        }
    }

    #[test]
    fn every_bad_field_is_named() {
        let problem = refused("60 24 * 13 *");
        for name in ["minute", "hour", "month"] {
            assert!(problem.contains(&format!("a bad {name} ")), "{problem}");
        }
    }

    #[test]
    fn nicknames_and_other_counts_of_fields_are_refused_with_the_reason() {
        let problem = refused("@daily");
        assert!(problem.contains("nickname"), "{problem}");
        for text in ["", "*", "0 1 * *", "0 0 1 * * *", "0 0 1 * * * 2027"] {
            let problem = refused(text);
            assert!(problem.contains("cron has five"), "{text}: {problem}");
        }
    }

    #[test]
    fn days_that_never_come_or_that_schedulers_disagree_on_are_refused() {
        for text in ["0 1 30 2 *", "0 1 31 4,6,9,NOV *", "0 1 30-31 FEB *"] {
            let problem = refused(text);
            assert!(problem.contains("does not exist"), "{problem}");
        }
        parse("0 1 29 2 *");
        // Either day: the Mondays of February remain.
        parse("0 1 30 2 MON");
        for text in ["0 1 */2 * MON", "0 1 1 * */2", "0 1 */2 * */2"] {
            let problem = refused(text);
            assert!(problem.contains("others either"), "{problem}");
        }
        parse("0 1 */2 * *");
        parse("0 1 */1 * MON");
    }

    #[test]
    fn the_shortest_gap_is_never_overestimated() {
        for (text, minutes) in [
            ("0 1 * * *", 1440),
            ("0 1 1 1 *", 1440),
            ("* * * * *", 1),
            ("*/15 * * * *", 15),
            ("0 */6 * * *", 360),
            ("0 1,22 * * *", 180),
            ("0,50 * * * *", 10),
        ] {
            assert_eq!(
                parse(text).shortest_gap(),
                Duration::from_secs(minutes * 60),
                "{text}"
            );
        }
    }
}
