//! Durations in configurations, written as in Kubernetes: `500ms`, `5s`, `1h30m`.

/// A duration in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// Reads for instance `1h30m`; `0` needs no unit.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self(0));
        }
        let (mut rest, mut sum) = (text, 0u64);
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number: u64 = rest[..digits].parse().ok()?;
            rest = &rest[digits..];
            let unit = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let factor = match &rest[..unit] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return None,
            };
            rest = &rest[unit..];
            sum = sum.checked_add(number.checked_mul(factor)?)?;
        }
        Some(Self(sum))
    }
}

impl<'de> serde::Deserialize<'de> for Millis {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a duration such as 30s or 5m")))
    }
}

#[cfg(test)]
mod tests {
    use super::Millis;

    #[test]
    fn durations_are_read_as_kubernetes_writes_them() {
        for (text, ms) in [
            ("0", Some(0)),
            ("500ms", Some(500)),
            ("5s", Some(5_000)),
            ("1h30m", Some(5_400_000)),
            ("", None),
            ("5", None),
            ("5d", None),
            ("s", None),
            ("-5s", None),
        ] {
            assert_eq!(Millis::parse(text).map(|m| m.0), ms, "{text}");
        }
    }
}
