//! Resource quantities: `100m`, `1.5Gi`, `2e3`, as Kubernetes reads, adds, compares and prints them.
//! Invariants: exact to a billionth, rounded up beyond it as the original does; printing gives the
//! canonical form (no fraction, no exponent lost, the largest fitting suffix of the format it was read in).
//! Defaults, validation, the scheduler and the quota code call it. Left out: infinite precision.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::Error;

const NANO: i128 = 1_000_000_000;
/// The original caps amounts at 2^63-1.
const AMOUNT_MAX: i128 = (i64::MAX as i128) * NANO;
const SYNTAX: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const SUFFIX: &str = "unable to parse quantity's suffix";
/// Longest accepted text; longer ones cannot be meant.
const LENGTH_MAX: usize = 64;

/// How a quantity is printed: the family of suffixes that it was written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Powers of a thousand: `m`, `k`, `M`.
    #[default]
    DecimalSi,
    /// Powers of 1024: `Ki`, `Mi`.
    BinarySi,
    /// Exponents: `1e3`.
    DecimalExponent,
}

/// An amount of a resource.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

impl Quantity {
    /// A whole amount.
    pub fn from_value(value: i64, format: Format) -> Self {
        Self {
            nano: i128::from(value) * NANO,
            format,
        }
    }

    /// An amount in thousandths.
    pub fn from_milli(milli: i64, format: Format) -> Self {
        Self {
            nano: i128::from(milli) * (NANO / 1000),
            format,
        }
    }

    /// The amount rounded up to a whole number.
    pub fn as_i64_ceil(&self) -> i64 {
        clamp(div_ceil(self.nano, NANO))
    }

    /// The amount in thousandths, rounded up.
    pub fn milli_value(&self) -> i64 {
        clamp(div_ceil(self.nano, NANO / 1000))
    }

    /// The family of suffixes.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether the amount is nothing.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// Whether the amount is below zero.
    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Whether the amount has no fraction.
    pub fn is_whole(&self) -> bool {
        self.nano % NANO == 0
    }

    /// Adds; keeps the format of the side that is not zero, as the original does.
    pub fn add(&mut self, other: &Quantity) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.nano = (self.nano + other.nano).clamp(-AMOUNT_MAX, AMOUNT_MAX);
    }

    /// Subtracts.
    pub fn sub(&mut self, other: &Quantity) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.nano = (self.nano - other.nano).clamp(-AMOUNT_MAX, AMOUNT_MAX);
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > LENGTH_MAX {
            return Err(Error::ParseQuantity(SYNTAX));
        }
        let (negative, unsigned) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(Error::ParseQuantity(SYNTAX));
        }
        let (format, scale) = suffix_scale(suffix)?;
        let magnitude = scale.apply(whole, fraction).min(AMOUNT_MAX);
        Ok(Self {
            nano: if negative { -magnitude } else { magnitude },
            format,
        })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let small = self.nano > -1024 * NANO && self.nano < 1024 * NANO;
        match self.format {
            Format::BinarySi if !small => {
                let mut amount = div_ceil_away(self.nano, NANO);
                let mut suffix = 0;
                while amount % 1024 == 0 && suffix + 1 < BINARY.len() {
                    amount /= 1024;
                    suffix += 1;
                }
                write!(f, "{amount}{}", BINARY[suffix])
            }
            format => {
                let mut amount = self.nano;
                let mut power = -9_i32;
                while amount % 1000 == 0 && power < 18 {
                    amount /= 1000;
                    power += 3;
                }
                match format {
                    Format::DecimalExponent if power == 0 => write!(f, "{amount}"),
                    Format::DecimalExponent => write!(f, "{amount}e{power}"),
                    _ => write!(f, "{amount}{}", DECIMAL[((power + 9) / 3) as usize]),
                }
            }
        }
    }
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

enum Scale {
    Power10(i32),
    Power1024(u32),
}

impl Scale {
    /// The magnitude in billionths, rounded up, capped well above any real amount.
    fn apply(&self, whole: &str, fraction: &str) -> i128 {
        match self {
            Scale::Power10(power) => {
                let shift = power + 9 - fraction.len() as i32;
                let digits = digits(whole, fraction);
                if shift >= 0 {
                    (0..shift).fold(digits, |value, _| value.saturating_mul(10))
                } else {
                    let divisor = (0..-shift).fold(1_i128, |value, _| value.saturating_mul(10));
                    div_ceil(digits, divisor)
                }
            }
            Scale::Power1024(power) => {
                let digits = digits(whole, fraction).saturating_mul(1024_i128.pow(*power));
                let shift = 9 - fraction.len() as i32;
                if shift >= 0 {
                    digits.saturating_mul(10_i128.pow(shift as u32))
                } else {
                    let divisor = (0..-shift).fold(1_i128, |value, _| value.saturating_mul(10));
                    div_ceil(digits, divisor)
                }
            }
        }
    }
}

fn digits(whole: &str, fraction: &str) -> i128 {
    whole
        .bytes()
        .chain(fraction.bytes())
        .fold(0_i128, |value, digit| {
            value.saturating_mul(10).saturating_add(i128::from(digit - b'0'))
        })
}

fn suffix_scale(suffix: &str) -> Result<(Format, Scale), Error> {
    if let Some(index) = BINARY.iter().skip(1).position(|name| *name == suffix) {
        return Ok((Format::BinarySi, Scale::Power1024(index as u32 + 1)));
    }
    if let Some(index) = DECIMAL.iter().position(|name| *name == suffix) {
        return Ok((Format::DecimalSi, Scale::Power10(index as i32 * 3 - 9)));
    }
    let exponent = suffix
        .strip_prefix(['e', 'E'])
        .ok_or(Error::ParseQuantity(SUFFIX))?
        .parse::<i32>()
        .map_err(|_| Error::ParseQuantity(SUFFIX))?;
    Ok((Format::DecimalExponent, Scale::Power10(exponent.clamp(-64, 64))))
}

fn div_ceil(value: i128, divisor: i128) -> i128 {
    let quotient = value.div_euclid(divisor);
    if value.rem_euclid(divisor) == 0 {
        quotient
    } else {
        quotient + 1
    }
}

fn div_ceil_away(value: i128, divisor: i128) -> i128 {
    if value < 0 {
        -div_ceil(-value, divisor)
    } else {
        div_ceil(value, divisor)
    }
}

fn clamp(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, canonical: &str) {
        let quantity: Quantity = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(quantity.to_string(), canonical, "{text}");
        let again: Quantity = canonical.parse().unwrap();
        assert_eq!(again.to_string(), canonical, "{canonical} is stable");
    }

    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1500m", "1500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("512Ki", "512Ki"),
            ("1023", "1023"),
            ("0.5Ki", "512"),
            ("1.1Ki", "1127"),
            ("1000", "1k"),
            ("1200k", "1200k"),
            ("1000000", "1M"),
            ("1e3", "1e3"),
            ("12e2", "1200"),
            ("1E", "1E"),
            ("1E3", "1e3"),
            ("1e-3", "1e-3"),
            ("100n", "100n"),
            ("0.1n", "1n"),
            ("-5m", "-5m"),
            ("+5", "5"),
            ("8Ei", "9223372036854775807"),
        ] {
            check(text, canonical);
        }
    }

    #[test]
    fn refused() {
        for text in ["", "abc", "1x", "1.2.3", "m", "--1", "1 Gi", "1e", "1ki", "."] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn arithmetic() {
        let mut sum: Quantity = "1500m".parse().unwrap();
        sum.add(&"250m".parse().unwrap());
        assert_eq!(
            (sum.milli_value(), sum.as_i64_ceil(), sum.to_string().as_str()),
            (1750, 2, "1750m")
        );
        sum.sub(&"2".parse().unwrap());
        assert_eq!(sum.to_string(), "-250m");
        assert!("1Gi".parse::<Quantity>().unwrap() > "1G".parse().unwrap());
    }
}
