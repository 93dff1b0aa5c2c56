//! Quantities as people write them: `50ms`, `64MiB`.
//!
//! A bare number has no unit, and a wrong guess is off by a factor of a thousand, so times need
//! one. Sizes may be plain bytes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, as `250us`, `50ms`, `5s`, `5min` or `1h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes, as `64KiB`, `1MiB`, `2GiB`, or without a unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Text that is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);

const TIMES: [(&str, u64); 5] = [
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Splits `12.5ms` into its number and its unit.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], text[end..].trim()))
}

fn whole(number: &str, factor: u64) -> Option<u64> {
    number.replace('_', "").parse::<u64>().ok()?.checked_mul(factor)
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parsed = split(text).and_then(|(number, unit)| {
            let (_, nanos) = TIMES.iter().find(|(name, _)| *name == unit)?;
            whole(number, *nanos)
        });
        parsed.map(|nanos| Self(Duration::from_nanos(nanos))).ok_or_else(|| {
            UnitError(format!(
                "{text:?} is not a time: write a whole number and us, ms, s, min or h, such as \"50ms\""
            ))
        })
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parsed = split(text).and_then(|(number, unit)| {
            let unit = if unit.is_empty() { "B" } else { unit };
            let (_, bytes) = SIZES.iter().find(|(name, _)| *name == unit)?;
            whole(number, *bytes)
        });
        parsed.map(Self).ok_or_else(|| {
            UnitError(format!(
                "{text:?} is not a size: write a whole number and B, KiB, MiB, GiB or TiB, such as \"64MiB\""
            ))
        })
    }
}

/// Writes the number in its largest unit that leaves no rest.
fn write(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fitting =
        units.iter().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    let (name, factor) = fitting.copied().unwrap_or(units[units.len() - 1]);
    write!(f, "{}{name}", value / factor)
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0.as_nanos() as u64, &TIMES)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, &SIZES)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

struct Quantity<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = UnitError>> Visitor<'_> for Quantity<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity in quotes with its unit, such as \"50ms\" or \"64MiB\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Quantity(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Quantity(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_written_the_same() {
        for (text, nanos) in [
            ("250us", 250_000),
            ("50ms", 50_000_000),
            ("2min", 120_000_000_000),
            ("1h", TIMES[0].1),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0, Duration::from_nanos(nanos), "{text}");
            assert_eq!(span.to_string(), text);
        }
        for (text, bytes) in [("1B", 1), ("64KiB", 65_536), ("1MiB", 1 << 20), ("3TiB", 3 << 40)] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string(), text);
        }
        assert_eq!("4_096".parse(), Ok(Size(4096)));
        assert_eq!(Size(1500).to_string(), "1500B");
    }

    #[test]
    fn a_time_without_a_unit_is_refused_with_a_hint() {
        for text in ["50", "ms", "-1s", "1.5s", "5 fortnights", "", "99999999999999h"] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert!(error.contains("such as \"50ms\""), "{text}: {error}");
        }
        for text in ["64MB", "KiB", "-1", "99999999999TiB"] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains("such as \"64MiB\""), "{text}: {error}");
        }
    }
}
