//! Times: RFC 3339 in JSON, seconds and nanoseconds in protobuf.
//!
//! As in Go: `metav1.Time` has whole seconds, `metav1.MicroTime` microseconds, and the zero time (year 1) is
//! an empty message and JSON's null.

use super::Problem;
use super::wire::{Reader, Wire, put_bytes, put_head, put_integer, varint_bytes};

/// The first of January of the year 1 in Unix seconds: Go's zero time.
const ZERO_SECONDS: i64 = -62_135_596_800;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    seconds: i64,
    nanos: u32,
}

/// Reads RFC 3339.
pub(super) fn read(text: &str) -> Option<Moment> {
    if let Some(moment) = usual(text.as_bytes()) {
        return Some(moment);
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    let nanos = time.as_nanosecond();
    Some(Moment {
        seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?,
        nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?,
    })
}

/// The form in which nearly all times stand: `2026-01-02T03:04:05Z`, perhaps with microseconds.
fn usual(text: &[u8]) -> Option<Moment> {
    let number = |range: std::ops::Range<usize>| {
        text[range].iter().try_fold(0_u32, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + u32::from(byte - b'0'))
        })
    };
    let micros = match text.len() {
        20 => 0,
        27 if text[19] == b'.' => number(20..26)?,
        _ => return None,
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if text.last() != Some(&b'Z') || marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    // Days 29 to 31 are left to the thorough way, which knows the calendar.
    if !(1..=12).contains(&month) || !(1..=28).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years start in March, so that the leap day comes last.
    let (year, month) = match month {
        3.. => (i64::from(year), i64::from(month) - 3),
        _ => (i64::from(year) - 1, i64::from(month) + 9),
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = year * 365 + leap_days + (month * 153 + 2) / 5 + i64::from(day) - 1 - 719_468;
    Some(Moment {
        seconds: days * 86_400 + i64::from(hour * 3600 + minute * 60 + second),
        nanos: micros * 1000,
    })
}

impl Moment {
    /// Appends the field.
    pub(super) fn put(self, out: &mut Vec<u8>, number: u32, micros: bool) {
        let nanos = if micros { self.nanos / 1000 * 1000 } else { 0 };
        if self.seconds == ZERO_SECONDS && nanos == 0 {
            return put_bytes(out, number, b"");
        }
        let seconds = self.seconds.cast_unsigned();
        let length = 2 + varint_bytes(seconds) + varint_bytes(u64::from(nanos));
        put_head(out, number, length);
        put_integer(out, 1, seconds);
        put_integer(out, 2, u64::from(nanos));
    }
}

/// Reads the message into what JSON has; none for the zero time.
pub(super) fn decode(bytes: &[u8], micros: bool) -> Result<Option<String>, Problem> {
    const RANGE: Problem = Problem::Malformed("a time is out of range");
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.field()? {
        match (number, value) {
            (1, Wire::Integer(number)) => seconds = number.cast_signed(),
            (2, Wire::Integer(number)) => nanos = number as i32,
            _ => {}
        }
    }
    let nanos = if micros { nanos / 1000 * 1000 } else { 0 };
    if seconds == ZERO_SECONDS && nanos == 0 {
        return Ok(None);
    }
    let time = jiff::Timestamp::new(seconds, nanos).map_err(|_| RANGE)?;
    Ok(Some(if micros {
        format!("{time:.6}")
    } else {
        time.to_string()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_and_the_thorough_one_agree() {
        for day in (-719_162_i64..2_932_000).step_by(97) {
            let seconds = day * 86_400 + 45_296;
            let time = jiff::Timestamp::new(seconds, 0).unwrap().to_string();
            assert_eq!(read(&time), Some(Moment { seconds, nanos: 0 }), "{time}");
        }
        let micros = read("2026-03-04T05:06:07.000089Z").unwrap();
        assert_eq!(micros.nanos, 89_000);
        assert_eq!(read("2026-03-04T05:06:07+01:00"), read("2026-03-04T04:06:07Z"));
        assert_eq!(read("2026-02-29T00:00:00Z"), None);
        assert_eq!(read("0001-01-01T00:00:00Z").unwrap().seconds, ZERO_SECONDS);
    }

    #[test]
    fn zero_is_empty_and_the_rest_comes_back() {
        let bytes = |text: &str, micros| {
            let mut out = Vec::new();
            read(text).unwrap().put(&mut out, 1, micros);
            out.split_off(2)
        };
        assert!(bytes("0001-01-01T00:00:00Z", false).is_empty());
        for (text, micros) in [
            ("1969-12-31T23:59:59Z", false),
            ("1970-01-01T00:00:00Z", false),
            ("2026-03-04T05:06:07.000089Z", true),
        ] {
            assert_eq!(decode(&bytes(text, micros), micros).unwrap().unwrap(), text);
        }
        assert_eq!(
            decode(&[8, 0, 16, 255, 255, 255, 255, 15], true)
                .unwrap()
                .unwrap()
                .len(),
            27
        );
    }
}
