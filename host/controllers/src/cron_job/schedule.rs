//! A cron schedule: which minutes it means. Pure.
//!
//! The five fields and the `@` names of the original's parser: lists, ranges, steps, names of months and days.
//! Invariant: looking for a time ends after [`DAYS_MAX`] days. A time that a change of the clock skips is
//! skipped; one that happens twice counts once.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// How far a matching day is looked for: a 29 February may be eight years away.
const DAYS_MAX: usize = 366 * 8;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What is wrong with a schedule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("expected 5 fields or a name such as @hourly, found {0:?}")]
    Fields(String),
    #[error("{field}: {value:?} is not within {low} to {high}")]
    Value {
        field: &'static str,
        value: String,
        low: u8,
        high: u8,
    },
    #[error("time zone {0:?} is not known")]
    Zone(String),
}

/// Each field as a bit set.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Days of the month and of the week are both restricted: either suffices.
    either_day: bool,
    zone: TimeZone,
}

impl Schedule {
    /// Reads `spec.schedule`; `zone` is `spec.timeZone`, UTC without.
    pub(crate) fn parse(text: &str, zone: Option<&str>) -> Result<Self, Unreadable> {
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| Unreadable::Zone(name.to_owned()))?,
        };
        let plain = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = plain.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(Unreadable::Fields(text.to_owned()));
        };
        let is_any = |field: &str| field.starts_with('*') || field.starts_with('?');
        let mut of_week = read("day of week", weekdays, 0, 7, &DAYS)?;
        if of_week & (1 << 7) != 0 {
            of_week |= 1;
        }
        Ok(Self {
            minutes: read("minute", minutes, 0, 59, &[])?,
            hours: read("hour", hours, 0, 23, &[])?,
            days: read("day of month", days, 1, 31, &[])?,
            months: read("month", months, 1, 12, &MONTHS)?,
            weekdays: of_week,
            either_day: !is_any(days) && !is_any(weekdays),
            zone,
        })
    }

    fn has_day(&self, date: Date) -> bool {
        let in_month = bit(self.days, date.day());
        let in_week = bit(self.weekdays, date.weekday().to_sunday_zero_offset());
        let day = if self.either_day {
            in_month || in_week
        } else {
            in_month && in_week
        };
        day && bit(self.months, date.month())
    }

    /// The times of a day, in order.
    fn of_day(&self, date: Date) -> impl DoubleEndedIterator<Item = Timestamp> {
        let hours = (0..24).filter(|hour| bit(self.hours, *hour));
        let times = hours.flat_map(|hour| {
            let minutes = (0..60).filter(|minute| bit(self.minutes, *minute));
            minutes.map(move |minute| (hour, minute))
        });
        times.filter_map(move |(hour, minute)| {
            let wanted = date.to_datetime(Time::new(hour, minute, 0, 0).ok()?);
            let zoned = wanted.to_zoned(self.zone.clone()).ok()?;
            (zoned.datetime() == wanted).then(|| zoned.timestamp())
        })
    }

    /// The first time after `after`.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut date = after.to_zoned(self.zone.clone()).date();
        for _ in 0..DAYS_MAX {
            if self.has_day(date)
                && let Some(time) = self.of_day(date).find(|time| *time > after)
            {
                return Some(time);
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }

    /// The last time that is after `after` and not after `until`.
    pub(crate) fn last(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let first = after.to_zoned(self.zone.clone()).date();
        let mut date = until.to_zoned(self.zone.clone()).date();
        for _ in 0..DAYS_MAX {
            if date < first {
                return None;
            }
            if self.has_day(date)
                && let Some(time) = self.of_day(date).rev().find(|time| *time <= until)
            {
                return (time > after).then_some(time);
            }
            date = date.checked_sub(1.day()).ok()?;
        }
        None
    }
}

fn bit(set: u64, number: i8) -> bool {
    set & (1 << number) != 0
}

fn read(field: &'static str, text: &str, low: u8, high: u8, names: &[&str]) -> Result<u64, Unreadable> {
    let wrong = |value: &str| Unreadable::Value {
        field,
        value: value.to_owned(),
        low,
        high,
    };
    let number = |value: &str| {
        let named = names.iter().position(|name| value.eq_ignore_ascii_case(name));
        let number = match named.and_then(|at| u8::try_from(at).ok()) {
            Some(at) => at + low,
            None => value.parse().map_err(|_| wrong(value))?,
        };
        if (low..=high).contains(&number) {
            Ok(number)
        } else {
            Err(wrong(value))
        }
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (
                range,
                Some(
                    step.parse()
                        .ok()
                        .filter(|step| *step > 0)
                        .ok_or_else(|| wrong(part))?,
                ),
            ),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (number(from)?, number(to)?),
            None if range == "*" || range == "?" => (low, high),
            None if step.is_some() => (number(range)?, high),
            None => (number(range)?, number(range)?),
        };
        if from > to {
            return Err(wrong(part));
        }
        for value in (from..=to).step_by(step.unwrap_or(1)) {
            set |= 1 << value;
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_times() {
        // (schedule, zone, after, next); 2026-01-01 is a Thursday.
        let cases = [
            ("* * * * *", "", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "", "2026-01-01T00:00:30Z", "2026-01-01T00:15:00Z"),
            ("5/20 3 * * *", "", "2026-01-01T03:25:00Z", "2026-01-01T03:45:00Z"),
            (
                "0 9-17/4 * * mon-fri",
                "",
                "2026-01-02T17:00:00Z",
                "2026-01-05T09:00:00Z",
            ),
            ("0 0 29 2 *", "", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 13 * 5", "", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 * * 7", "", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            (
                "0 0 1 jun,DEC *",
                "",
                "2026-06-01T00:00:00Z",
                "2026-12-01T00:00:00Z",
            ),
            ("@hourly", "", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            (
                "30 8 * * *",
                "America/New_York",
                "2026-01-01T00:00:00Z",
                "2026-01-01T13:30:00Z",
            ),
            // That half hour does not exist on the day when the clock goes forward.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T12:00:00Z",
                "2026-03-30T00:30:00Z",
            ),
        ];
        for (text, zone, after, next) in cases {
            let schedule = Schedule::parse(text, Some(zone).filter(|zone| !zone.is_empty())).unwrap();
            let (after, next): (Timestamp, Timestamp) = (after.parse().unwrap(), next.parse().unwrap());
            assert_eq!(schedule.next(after), Some(next), "{text}");
            assert_eq!(schedule.last(after, next), Some(next), "{text}");
            assert_eq!(schedule.last(next, next), None, "{text}");
        }
        assert_eq!(
            Schedule::parse("0 0 31 2 *", None)
                .unwrap()
                .next(Timestamp::UNIX_EPOCH),
            None
        );
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (
                "* * * *",
                "expected 5 fields or a name such as @hourly, found \"* * * *\"",
            ),
            ("60 * * * *", "minute: \"60\" is not within 0 to 59"),
            ("* * 0 * *", "day of month: \"0\" is not within 1 to 31"),
            ("* * * foo *", "month: \"foo\" is not within 1 to 12"),
            ("*/0 * * * *", "minute: \"*/0\" is not within 0 to 59"),
            (
                "@sometimes",
                "expected 5 fields or a name such as @hourly, found \"@sometimes\"",
            ),
        ];
        for (text, said) in cases {
            assert_eq!(Schedule::parse(text, None).unwrap_err().to_string(), said);
        }
        assert!(Schedule::parse("* * * * *", Some("Moon/Crater")).is_err());
    }
}
