//! Replies, and how they are written.

use bytes::{BufMut, Bytes, BytesMut};

use super::number::Decimal;

/// Which version of the protocol a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// What every client speaks. Connections begin with it.
    #[default]
    V2,
    /// With maps, sets, doubles and one null; asked for with `HELLO 3`.
    V3,
}

/// A reply. One that version 2 has no form for is written as what Redis sends there instead.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A short text: `+OK`.
    Simple(&'static str),
    /// An error: a word in capitals that clients know, a space, what is wrong. Line ends in it are
    /// written as spaces.
    Error(Bytes),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Nothing, where bytes were asked for.
    Null,
    /// Nothing, where an array was asked for.
    NullArray,
    /// Values in order.
    Array(Vec<Value>),
    /// Pairs in order; in version 2 one array, keys and values by turns.
    Map(Vec<(Value, Value)>),
    /// Pairs in order, each an array; in version 2 one array, first and second by turns.
    Pairs(Vec<(Value, Value)>),
    /// Values without an order; in version 2 an array.
    Set(Vec<Value>),
    /// A number with a fraction; in version 2 bytes.
    Double(f64),
    /// Yes or no; in version 2 the numbers 1 and 0.
    Boolean(bool),
    /// Text for people; in version 2 bytes.
    Verbatim(Bytes),
    /// What nobody asked for just now; in version 2 an array.
    Push(Vec<Value>),
}

impl Value {
    /// `+OK`.
    pub const OK: Self = Self::Simple("OK");

    /// An error of a text.
    pub fn error(text: impl Into<Bytes>) -> Self {
        Self::Error(text.into())
    }

    /// Bytes.
    pub fn bulk(bytes: impl Into<Bytes>) -> Self {
        Self::Bulk(bytes.into())
    }

    /// Bytes, or nothing.
    pub fn maybe(bytes: Option<Bytes>) -> Self {
        bytes.map_or(Self::Null, Self::Bulk)
    }

    /// Whether this is an error.
    pub const fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// Writes it.
    pub fn write(&self, version: Version, out: &mut BytesMut) {
        let v3 = version == Version::V3;
        match self {
            Self::Simple(text) => {
                out.put_u8(b'+');
                out.put_slice(text.as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::Error(text) => {
                out.put_u8(b'-');
                out.extend(text.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }));
                out.put_slice(b"\r\n");
            }
            Self::Integer(number) => line(out, b':', *number),
            Self::Bulk(bytes) => bulk(out, bytes),
            Self::Null | Self::NullArray if v3 => out.put_slice(b"_\r\n"),
            Self::Null => out.put_slice(b"$-1\r\n"),
            Self::NullArray => out.put_slice(b"*-1\r\n"),
            Self::Array(values) => {
                line(out, b'*', values.len() as i64);
                for value in values {
                    value.write(version, out);
                }
            }
            Self::Set(values) => {
                line(out, if v3 { b'~' } else { b'*' }, values.len() as i64);
                for value in values {
                    value.write(version, out);
                }
            }
            Self::Push(values) => {
                line(out, if v3 { b'>' } else { b'*' }, values.len() as i64);
                for value in values {
                    value.write(version, out);
                }
            }
            Self::Pairs(pairs) if v3 => {
                line(out, b'*', pairs.len() as i64);
                for (first, second) in pairs {
                    line(out, b'*', 2);
                    first.write(version, out);
                    second.write(version, out);
                }
            }
            Self::Pairs(pairs) => {
                line(out, b'*', 2 * pairs.len() as i64);
                for (first, second) in pairs {
                    first.write(version, out);
                    second.write(version, out);
                }
            }
            Self::Map(pairs) => {
                let count = pairs.len() as i64;
                if v3 {
                    line(out, b'%', count);
                } else {
                    line(out, b'*', 2 * count);
                }
                for (key, value) in pairs {
                    key.write(version, out);
                    value.write(version, out);
                }
            }
            Self::Double(number) if v3 => {
                out.put_u8(b',');
                out.put_slice(double(*number).as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::Double(number) => bulk(out, double(*number).as_bytes()),
            Self::Boolean(yes) if v3 => out.put_slice(if *yes { b"#t\r\n" } else { b"#f\r\n" }),
            Self::Boolean(yes) => line(out, b':', i64::from(*yes)),
            Self::Verbatim(text) if v3 => {
                line(out, b'=', text.len() as i64 + 4);
                out.put_slice(b"txt:");
                out.put_slice(text);
                out.put_slice(b"\r\n");
            }
            Self::Verbatim(text) => bulk(out, text),
        }
    }
}

fn line(out: &mut BytesMut, kind: u8, number: i64) {
    out.put_u8(kind);
    out.put_slice(Decimal::new(number).as_bytes());
    out.put_slice(b"\r\n");
}

fn bulk(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(bytes.len() + 24);
    line(out, b'$', bytes.len() as i64);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

/// A number as Redis 7.0 writes it: 17 significant digits, without zeros at the end; with the
/// protocol's names for what is no number.
pub fn double(number: f64) -> String {
    /// Digits that tell any two numbers apart.
    const DIGITS: i32 = 17;
    if number.is_nan() {
        "nan".into()
    } else if number.is_infinite() {
        if number > 0.0 { "inf".into() } else { "-inf".into() }
    } else {
        let exact = format!("{number:.16e}");
        let (_, exponent) = exact.split_once('e').unwrap_or((&exact, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let trim = |text: &str| {
            if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            } else {
                text.to_owned()
            }
        };
        if (-4..DIGITS).contains(&exponent) {
            let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
            return trim(&format!("{number:.decimals$}"));
        }
        let (digits, _) = exact.split_once('e').unwrap_or((&exact, ""));
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(digits), exponent.abs())
    }
}
