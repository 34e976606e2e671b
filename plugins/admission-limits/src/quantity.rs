//! Amounts as Kubernetes writes them, exact.

/// An amount in billionths, with the text it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quantity {
    pub(crate) nano: i128,
    text: String,
}

const SUFFIXES: [(&str, i128); 15] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("m", -1_000),
    ("u", -1_000_000),
    ("n", -1_000_000_000),
];
/// Digits after the point that are kept.
const FRACTION_MAX: usize = 9;

impl Quantity {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let suffix = SUFFIXES.into_iter().find(|(suffix, _)| text.ends_with(suffix));
        let (number, factor) = suffix.map_or((text, 1), |(suffix, factor)| {
            (&text[..text.len() - suffix.len()], factor)
        });
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.len() + fraction.len() == 0)
            || whole.len() > FRACTION_MAX * 2
            || fraction.len() > FRACTION_MAX
        {
            return None;
        }
        if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') || fraction.contains('.') {
            return None;
        }
        let digits: i128 = format!("{whole}{fraction}{}", "0".repeat(FRACTION_MAX - fraction.len()))
            .parse()
            .ok()?;
        let nano = if factor < 0 {
            digits / -factor
        } else {
            digits.checked_mul(factor)?
        };
        Some(Self {
            nano,
            text: text.to_owned(),
        })
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A manifest writes `cpu: 1` as well as `cpu: "1"`.
impl<'de> serde::Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Whole(u64),
        }
        let text = match Written::deserialize(from)? {
            Written::Text(text) => text,
            Written::Whole(number) => number.to_string(),
        };
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a quantity")))
    }
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[test]
    fn quantities_are_exact() {
        let billion = 1_000_000_000;
        for (text, nano) in [
            ("1", Some(billion)),
            ("100m", Some(billion / 10)),
            ("0.1", Some(billion / 10)),
            ("1Gi", Some(billion << 30)),
            ("1.5k", Some(1500 * billion)),
            ("", None),
            ("m", None),
            ("1x", None),
            ("1.2.3", None),
        ] {
            assert_eq!(
                Quantity::parse(text).map(|quantity| quantity.nano),
                nano,
                "{text}"
            );
        }
    }
}
