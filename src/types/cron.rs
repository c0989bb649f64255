//! A cron expression of five fields: validated strictly, and parsed into the values of each field.
//!
//! Accepted is what Vixie cron, cronie and Kubernetes all read alike: numbers, names, lists, ranges,
//! and steps over a range or `*` (crontab(5)). What only some of them accept (`@daily`, `5/10`, `?`,
//! `L`, a range that wraps) is refused: an entry must not mean something else elsewhere.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::NaiveDate;

use super::digits;

/// The minutes of a day.
const MINUTES_PER_DAY: u64 = 24 * 60;

/// A year in which every month has all the days that it can have.
const LEAP_YEAR: i32 = 2028;

/// When a cycle starts, in UTC. It is displayed in the numbers that every cron reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    fields: [Field; 5],
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// Ascending; Sunday is 0, never 7.
    pub(crate) values: Vec<u8>,
    /// The field in numbers.
    text: String,
    /// Whether it was written with a `*`, which for the two day fields decides how they combine.
    has_star: bool,
}

/// The values that a field may have.
struct Kind {
    name: &'static str,
    min: u8,
    max: u8,
    /// The names of the values, the first of `min`.
    names: &'static [&'static str],
    /// What a message adds to `min` and `max`.
    also: &'static str,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const SUNDAY_TOO: u8 = 7;

/// The fields in their order.
const KINDS: [Kind; 5] = [
    Kind { name: "minute", min: 0, max: 59, names: &[], also: "" },
    Kind { name: "hour", min: 0, max: 23, names: &[], also: "" },
    Kind { name: "day of month", min: 1, max: 31, names: &[], also: "" },
    Kind { name: "month", min: 1, max: 12, names: &MONTHS, also: " or JAN to DEC" },
    Kind {
        name: "day of week",
        min: 0,
        max: SUNDAY_TOO,
        names: &WEEKDAYS,
        also: " (0 and 7 are Sunday) or SUN to SAT",
    },
];

impl FromStr for Cron {
    /// The end of a sentence that begins with the setting's name: every bad field and its possible
    /// values, without repeating the text.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.first().is_some_and(|word| word.starts_with('@')) {
            return Err("is a nickname, which not every scheduler supports: write five fields, \
                        such as `0 0 * * *` for @daily"
                .to_owned());
        }
        if words.len() != KINDS.len() {
            return Err(format!(
                "must have five fields, not {} (minute, hour, day of month, month, day of week; no \
                 seconds, no year)",
                words.len()
            ));
        }
        let mut problems = Vec::new();
        let fields = words.iter().zip(KINDS).filter_map(|(word, kind)| {
            Field::parse(&kind, word).map_err(|problem| problems.push(problem)).ok()
        });
        let fields: Result<[Field; 5], _> = fields.collect::<Vec<_>>().try_into();
        let fields = fields.map_err(|_| format!("has {}", problems.join(", and ")))?;
        let cron = Self { fields };
        cron.check_days()?;
        Ok(cron)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.fields.each_ref().map(|field| field.text.as_str());
        f.write_str(&texts.join(" "))
    }
}

impl Cron {
    /// Returns minute, hour, day of month, month and day of week.
    pub(crate) fn fields(&self) -> &[Field; 5] {
        &self.fields
    }

    /// Refuses day fields that never match, or that schedulers combine differently.
    fn check_days(&self) -> Result<(), String> {
        let [_, _, days, months, weekdays] = &self.fields;
        // With a field that begins with `*`, Vixie cron requires both days, Kubernetes either.
        if !days.is_any() && !weekdays.is_any() && (days.has_star || weekdays.has_star) {
            return Err(format!(
                "sets the day of month `{}` and the day of week `{}`, one of them with a `*`: \
                 some schedulers then require both to match, others either; write that field \
                 without `*`, or the other one as `*`",
                days.text, weekdays.text
            ));
        }
        let first_day = days.values.first().copied().unwrap_or_default();
        let exists = |month: &u8| {
            NaiveDate::from_ymd_opt(LEAP_YEAR, (*month).into(), first_day.into()).is_some()
        };
        if weekdays.is_any() && !months.values.iter().any(exists) {
            return Err(format!(
                "sets the day of month `{}`, which does not exist in the month `{}`: nothing \
                 would ever run",
                days.text, months.text
            ));
        }
        Ok(())
    }

    /// Returns the shortest time that can pass between two starts, at least a minute.
    ///
    /// Every day is taken as matching, so the real time may be longer, never shorter.
    pub(crate) fn shortest_gap(&self) -> Duration {
        let [minutes, hours, ..] = &self.fields;
        let of_hour = |hour: &u8| {
            let start = u64::from(*hour) * 60;
            minutes.values.iter().map(move |minute| start + u64::from(*minute))
        };
        let mut starts: Vec<u64> = hours.values.iter().flat_map(of_hour).collect();
        starts.extend(starts.first().map(|first| first + MINUTES_PER_DAY));
        let gaps = starts.iter().zip(starts.iter().skip(1)).map(|(start, next)| next - start);
        Duration::from_secs(gaps.min().unwrap_or(MINUTES_PER_DAY) * 60)
    }
}

impl Field {
    /// Returns whether it is `*` and nothing else.
    pub(crate) fn is_any(&self) -> bool {
        matches!(&*self.text, "*" | "*/1")
    }

    fn parse(kind: &Kind, text: &str) -> Result<Self, String> {
        let mut values = Vec::new();
        for element in text.split(',') {
            values.extend(kind.element(element).map_err(|why| {
                format!(
                    "a bad {} ({why}; allowed: {} to {}{}, `*`, lists `1,2`, ranges `1-5`, steps \
                     `*/2` and `1-5/2`)",
                    kind.name, kind.min, kind.max, kind.also
                )
            })?);
        }
        if kind.max == SUNDAY_TOO {
            values.iter_mut().for_each(|value| *value %= SUNDAY_TOO);
        }
        values.sort_unstable();
        values.dedup();
        // Kubernetes does not accept 7 for Sunday, and some daemons no names in lists and ranges.
        let is_portable = text.bytes().all(|byte| !byte.is_ascii_alphabetic())
            && (kind.max != SUNDAY_TOO || !text.contains('7'));
        let portable = match is_portable {
            true => text.to_owned(),
            false => compact(&values, "-", u8::to_string),
        };
        Ok(Self { values, text: portable, has_star: text.contains('*') })
    }
}

impl Kind {
    /// Parses one element of a list: a value, a range or a step.
    fn element(&self, text: &str) -> Result<impl Iterator<Item = u8> + use<>, String> {
        let with_step = text.split_once('/');
        let (range, step) = with_step.map_or((text, None), |(range, step)| (range, Some(step)));
        let (first, last) = match range.split_once('-') {
            None if range == "*" => (self.min, self.max),
            None if step.is_some() => return Err("a step needs a range or `*`".to_owned()),
            None => (self.value(range)?, self.value(range)?),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
        };
        if first > last {
            let hint = if self.max == SUNDAY_TOO { ", and Sunday at the end is 7" } else { "" };
            return Err(format!("a range ends before it begins{hint}"));
        }
        let step = digits(step.unwrap_or("1"))
            .filter(|step| (1..=self.max).contains(step))
            .ok_or_else(|| format!("a step is not from 1 to {}", self.max))?;
        Ok((first..=last).step_by(usize::from(step)))
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let mut named = (self.min..).zip(self.names);
        let named = named.find(|(_, name)| name.eq_ignore_ascii_case(text));
        let value = named.map(|(value, _)| value).or_else(|| digits(text));
        let value = value.filter(|value| (self.min..=self.max).contains(value));
        value.ok_or_else(|| "an unknown value".to_owned())
    }
}

/// Formats ascending values as a list, three and more in a row as a range joined by `dash`.
pub(crate) fn compact(values: &[u8], dash: &str, format: impl Fn(&u8) -> String) -> String {
    let runs = values.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [first, _, .., last] => format!("{}{dash}{}", format(first), format(last)),
        short => short.iter().map(&format).collect::<Vec<_>>().join(","),
    });
    runs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Cron {
        text.parse().unwrap_or_else(|problem| panic!("{text}: {problem}"))
    }

    fn refused(text: &str) -> String {
        text.parse::<Cron>().expect_err(text)
    }

    #[test]
    fn fields_are_parsed_as_crontab_5_documents() {
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
            assert_eq!(parse(&format!("{text} * * * *")).fields[0].values, minutes, "{text}");
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
            assert_eq!(parse(&format!("0 1 * * {text}")).fields[4].values, weekdays, "{text}");
        }
        assert_eq!(parse("*,5 * * * *").fields[0].values.len(), 60);
        assert_eq!(parse("0 1 * JAN,oct-DEC *").fields[3].values, [1, 10, 11, 12]);
        assert_eq!(parse("\t0  1 * * *\n").to_string(), "0 1 * * *");
    }

    #[test]
    fn names_and_the_second_sunday_are_displayed_as_numbers() {
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
    fn an_invalid_expression_is_refused_with_its_field() {
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
    fn every_invalid_field_is_named() {
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
            assert!(problem.contains("must have five fields"), "{text}: {problem}");
        }
    }

    #[test]
    fn days_that_never_match_or_that_schedulers_disagree_on_are_refused() {
        for text in ["0 1 30 2 *", "0 1 31 4,6,9,NOV *", "0 1 30-31 FEB *"] {
            let problem = refused(text);
            assert!(problem.contains("does not exist"), "{problem}");
        }
        parse("0 1 29 2 *");
        // Either day: the Mondays of February remain.
        parse("0 1 30 2 MON");
        for text in
            ["0 1 */2 * MON", "0 1 1 * */2", "0 1 */2 * */2", "0 1 1 * */7", "0 1 1 * *,MON"]
        {
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
            assert_eq!(parse(text).shortest_gap(), Duration::from_secs(minutes * 60), "{text}");
        }
    }
}
