//! The 80-bit floating point numbers that Redis counts with in INCRBYFLOAT, in integers.
//!
//! Redis adds `long double`s and prints 17 digits behind the point. On x86-64 that is a mantissa of
//! 64 bits, so `0.1 + 0.2` is `0.3` there, where an `f64` gives `0.30000000000000004`. The same
//! digits have to come out here, on every kind of machine, because replicas must agree; so the
//! numbers are mantissas and exponents, and what is not exact is rounded to the nearest, ties to
//! even, as the processor does.

use std::cmp::Ordering;
use std::fmt::Write;

/// The longest text that is read as a number: Redis's own limit.
const LONGEST: usize = 5 * 1024 - 1;
/// The largest exponent: values are below 2^16384.
const MAX_EXPONENT: i32 = 16_384 - 64;
/// The smallest exponent: the last bit of the smallest numbers.
const MIN_EXPONENT: i32 = -16_445;
/// Exponents beyond these are out of range whatever digits the longest text holds: of ten, and of
/// two.
const DECIMAL_EXPONENTS: std::ops::RangeInclusive<i64> = -10_200..=4_950;
const BINARY_EXPONENTS: std::ops::RangeInclusive<i64> = -40_000..=17_000;

/// A number: `± mantissa × 2^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extended {
    negative: bool,
    magnitude: Magnitude,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Magnitude {
    Infinite,
    Zero,
    /// The highest bit of the mantissa is set.
    Finite {
        mantissa: u64,
        exponent: i32,
    },
}

use Magnitude::{Finite, Infinite, Zero};

impl Extended {
    pub(super) const ZERO: Self = Self { negative: false, magnitude: Zero };

    pub(super) fn is_infinite(self) -> bool {
        self.magnitude == Infinite
    }

    /// Reads what C's `strtold` reads, if it is all of the text: decimal or hexadecimal, with an
    /// exponent or not, or `inf`. No number, or none of that size: `None`.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > LONGEST {
            return None;
        }
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] | rest => (false, rest),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(Self { negative, magnitude: Infinite });
        }
        let magnitude = match rest {
            [b'0', b'x' | b'X', digits @ ..] => hexadecimal(digits)?,
            digits => decimal(digits)?,
        };
        Some(Self { negative, magnitude })
    }

    /// The sum; `None` for infinities that cancel out.
    pub(super) fn add(self, other: Self) -> Option<Self> {
        let (a, b) = match (self.magnitude, other.magnitude) {
            (Infinite, Infinite) if self.negative != other.negative => return None,
            (Infinite, _) | (_, Zero) => return Some(self),
            (_, Infinite) | (Zero, _) => return Some(other),
            (
                Finite { mantissa: m, exponent: e },
                Finite { mantissa: other_m, exponent: other_e },
            ) => ((m, e), (other_m, other_e)),
        };
        // The larger first; both are normalised, so the exponent decides.
        let (negative, (m, e), (small_m, small_e)) =
            if (a.1, a.0) >= (b.1, b.0) { (self.negative, a, b) } else { (other.negative, b, a) };
        // 62 bits below the larger one's last: enough for exact rounding with a sticky bit.
        let large = u128::from(m) << 62;
        let shift = e.abs_diff(small_e);
        let wide = u128::from(small_m) << 62;
        let (small, lost) = match shift {
            0..=127 => (wide >> shift, wide & ((1_u128 << shift) - 1) != 0),
            _ => (0, true),
        };
        let sticky = u128::from(lost);
        let sum = if self.negative == other.negative {
            large + (small | sticky)
        } else {
            // What was lost makes the difference smaller by less than one.
            (large - small - sticky) | sticky
        };
        if sum == 0 {
            return Some(Self::ZERO);
        }
        Some(Self { negative, magnitude: rounded(sum, e - 62, false) })
    }

    /// As Redis prints it: 17 digits behind the point, rounded, without the zeros at the end.
    pub(super) fn text(self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let mut text = match self.magnitude {
            Infinite => return format!("{sign}inf"),
            Zero => return "0".into(),
            Finite { mantissa, exponent: exponent @ 0.. } => {
                let mut whole = Natural::from(u128::from(mantissa));
                whole.shift_left(exponent as u32);
                return format!("{sign}{}", whole.text());
            }
            Finite { mantissa, exponent } => {
                const SCALE: u128 = 100_000_000_000_000_000;
                let scaled = u128::from(mantissa) * SCALE;
                let shift = exponent.unsigned_abs();
                let units = if shift < 128 { rounding_shift(scaled, shift) } else { 0 };
                format!("{sign}{}.{:017}", units / SCALE, units % SCALE)
            }
        };
        let kept = text.trim_end_matches('0').trim_end_matches('.').len();
        text.truncate(kept);
        // Redis knows no negative zero here.
        if text == "-0" { "0".into() } else { text }
    }
}

/// `value / 2^shift`, to the nearest, ties to even. `shift` is below 128 and above 0.
const fn rounding_shift(value: u128, shift: u32) -> u128 {
    let quotient = value >> shift;
    let rest = value & ((1 << shift) - 1);
    let half = 1_u128 << (shift - 1);
    if rest > half || (rest == half && quotient & 1 == 1) { quotient + 1 } else { quotient }
}

/// `value × 2^exponent`, and a little more if `more`, as a number of 64 bits. `value` is not zero,
/// and has at least two bits to spare where there is more.
fn rounded(value: u128, exponent: i32, more: bool) -> Magnitude {
    let value = value | u128::from(more);
    let excess = 64 - value.leading_zeros() as i32;
    // Below the smallest exponent fewer bits are left.
    let excess = excess.max(MIN_EXPONENT - exponent);
    let (mantissa, exponent) = match excess {
        ..=0 => (value, exponent),
        1..=127 => (rounding_shift(value, excess as u32), exponent + excess),
        _ => (0, exponent),
    };
    if mantissa == 0 {
        return Zero;
    }
    let up = mantissa.leading_zeros() as i32 - 64;
    let (mantissa, exponent) =
        if up >= 0 { (mantissa << up, exponent - up) } else { (mantissa >> 1, exponent + 1) };
    if exponent > MAX_EXPONENT {
        return Infinite;
    }
    Finite { mantissa: mantissa as u64, exponent }
}

/// Digits, a point among them perhaps, and an exponent perhaps.
fn decimal(text: &[u8]) -> Option<Magnitude> {
    let (digits, point, rest) = digits(text, u8::is_ascii_digit)?;
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', exponent @ ..] => power(exponent)?,
        _ => return None,
    };
    let mut whole = Natural::from(0);
    for group in digits.chunks(9) {
        let summand = group.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        whole.multiply_add(10_u32.pow(group.len() as u32), summand);
    }
    if whole.is_zero() {
        return Some(Zero);
    }
    let exponent = exponent.saturating_sub(point);
    if !DECIMAL_EXPONENTS.contains(&exponent) {
        return None;
    }
    let magnitude = if exponent >= 0 {
        whole.multiply_by_ten_to(exponent as u32);
        let (top, exponent, more) = whole.top();
        rounded(top, exponent, more)
    } else {
        let mut divisor = Natural::from(1);
        divisor.multiply_by_ten_to(exponent.unsigned_abs() as u32);
        let (quotient, exponent, more) = whole.divide(divisor);
        rounded(quotient, exponent, more)
    };
    // Redis refuses what `strtold` reports as out of range.
    matches!(magnitude, Finite { .. }).then_some(magnitude)
}

/// Hexadecimal digits, a point among them perhaps, and a power of two perhaps.
fn hexadecimal(text: &[u8]) -> Option<Magnitude> {
    let (digits, point, rest) = digits(text, u8::is_ascii_hexdigit)?;
    let exponent = match rest {
        [] => 0,
        [b'p' | b'P', exponent @ ..] => power(exponent)?,
        _ => return None,
    };
    let mut whole = Natural::from(0);
    for digit in digits {
        whole.multiply_add(16, char::from(digit).to_digit(16)?);
    }
    if whole.is_zero() {
        return Some(Zero);
    }
    let exponent = exponent.saturating_sub(point.saturating_mul(4));
    if !BINARY_EXPONENTS.contains(&exponent) {
        return None;
    }
    let (top, low, more) = whole.top();
    let magnitude = rounded(top, low + exponent as i32, more);
    matches!(magnitude, Finite { .. }).then_some(magnitude)
}

/// At least one digit, how many of them stand behind the point, and what follows them.
fn digits(text: &[u8], is_digit: fn(&u8) -> bool) -> Option<(Vec<u8>, i64, &[u8])> {
    let mut digits = Vec::with_capacity(text.len());
    let mut point = None;
    let mut end = text.len();
    for (place, byte) in text.iter().enumerate() {
        match byte {
            b'.' if point.is_none() => point = Some(digits.len()),
            byte if is_digit(byte) => digits.push(*byte),
            _ => {
                end = place;
                break;
            }
        }
    }
    let behind = point.map_or(0, |at| digits.len() - at) as i64;
    (!digits.is_empty()).then_some((digits, behind, &text[end..]))
}

/// A signed exponent. One with more digits than matter is as far as one can be.
fn power(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits
        .iter()
        .fold(0_i64, |size, digit| size.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Some(if negative { -size } else { size })
}

/// A natural number of any size, its lowest 32 bits first, without zeros at the top.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Natural(Vec<u32>);

impl Natural {
    fn from(mut value: u128) -> Self {
        let mut parts = Vec::new();
        while value != 0 {
            parts.push(value as u32);
            value >>= 32;
        }
        Self(parts)
    }

    const fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> u32 {
        match self.0.last() {
            Some(top) => self.0.len() as u32 * 32 - top.leading_zeros(),
            None => 0,
        }
    }

    fn multiply_add(&mut self, factor: u32, summand: u32) {
        let mut carry = u64::from(summand);
        for part in &mut self.0 {
            carry += u64::from(*part) * u64::from(factor);
            *part = carry as u32;
            carry >>= 32;
        }
        if carry != 0 {
            self.0.push(carry as u32);
        }
    }

    fn multiply_by_ten_to(&mut self, mut power: u32) {
        while power > 0 {
            let step = power.min(9);
            self.multiply_add(10_u32.pow(step), 0);
            power -= step;
        }
    }

    fn shift_left(&mut self, bits: u32) {
        let small = bits % 32;
        if small != 0 {
            self.multiply_add(1 << small, 0);
        }
        if !self.is_zero() {
            let zeros = std::iter::repeat_n(0, (bits / 32) as usize);
            self.0.splice(0..0, zeros);
        }
    }

    /// The quotient by a small number stays; the rest is returned.
    fn divide_small(&mut self, divisor: u32) -> u32 {
        let mut rest = 0_u64;
        for part in self.0.iter_mut().rev() {
            rest = rest << 32 | u64::from(*part);
            *part = (rest / u64::from(divisor)) as u32;
            rest %= u64::from(divisor);
        }
        self.trim();
        rest as u32
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let by_size = self.0.len().cmp(&other.0.len());
        by_size.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Subtracts a number that is not larger.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (place, part) in self.0.iter_mut().enumerate() {
            let (less, first) = part.overflowing_sub(other.0.get(place).copied().unwrap_or(0));
            let (less, second) = less.overflowing_sub(u32::from(borrow));
            *part = less;
            borrow = first || second;
        }
        self.trim();
    }

    /// The highest 96 bits or more, the exponent of their last, and whether there is more below.
    fn top(&self) -> (u128, i32, bool) {
        let skipped = self.0.len().saturating_sub(4);
        let top = self.0[skipped..].iter().rev().fold(0, |top, part| top << 32 | u128::from(*part));
        (top, skipped as i32 * 32, self.0[..skipped].iter().any(|part| *part != 0))
    }

    /// The quotient's first 70 bits, the exponent of the last of them, and whether there is a rest.
    fn divide(mut self, mut divisor: Self) -> (u128, i32, bool) {
        const DIGITS: i32 = 70;
        // Align the highest bits, so that the first digit comes at once or at the second step.
        let ahead = self.bits() as i32 - divisor.bits() as i32;
        if ahead > 0 {
            divisor.shift_left(ahead.unsigned_abs());
        } else {
            self.shift_left(ahead.unsigned_abs());
        }
        let mut quotient = 0_u128;
        for _ in 0..DIGITS {
            quotient <<= 1;
            if self.compare(&divisor).is_ge() {
                self.subtract(&divisor);
                quotient |= 1;
            }
            self.shift_left(1);
        }
        (quotient, ahead - (DIGITS - 1), !self.is_zero())
    }

    fn text(mut self) -> String {
        let mut groups = Vec::new();
        while !self.is_zero() {
            groups.push(self.divide_small(1_000_000_000));
        }
        let mut text = groups.pop().unwrap_or(0).to_string();
        for group in groups.into_iter().rev() {
            let _ = write!(text, "{group:09}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let (a, b) = (Extended::parse(a.as_bytes())?, Extended::parse(b.as_bytes())?);
        Some(a.add(b)?.text())
    }

    /// Each answer is one of redis-server 7.0.15 on x86-64.
    #[test]
    fn sums_are_what_redis_answers() {
        for (a, b, expected) in [
            ("10.50", "0.1", "10.6"),
            ("10.6", "-5", "5.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("3", "0", "3"),
            ("1.5", "-1.5", "0"),
            ("-1e-20", "0", "0"),
            ("0x10", "0x1p-1", "16.5"),
            ("+1", ".5", "1.5"),
            ("1.", "0", "1"),
            ("inf", "1", "inf"),
            ("-inf", "1e4932", "-inf"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("36893488147419103232", "1", "36893488147419103232"),
            ("36893488147419103232", "3", "36893488147419103236"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
        }
        assert_eq!(sum("inf", "-inf"), None);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            " 1",
            "1 ",
            "abc",
            "nan",
            "1e",
            "1e+",
            ".",
            "-",
            "0x",
            "0xg",
            "1e5000",
            "-1e5000",
            "1e-5000",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "1.2.3",
            "--1",
            "1_0",
            "in",
            "0x1p99999999",
            "1,5",
        ] {
            assert_eq!(Extended::parse(text.as_bytes()), None, "{text}");
        }
        assert!(Extended::parse("0e99999999999999999999".as_bytes()).is_some(), "zero is zero");
        assert_eq!(Extended::parse("9".repeat(LONGEST + 1).as_bytes()), None);
    }

    #[test]
    fn the_largest_numbers_are_as_large_as_redis_has_them() {
        let largest = "1.18973149535723176502126385303e4932";
        assert!(sum(largest, "0").is_some_and(|text| text.starts_with("11897314953572317650")));
        let text = sum(largest, largest).unwrap();
        assert_eq!(text, "inf");
        assert_eq!(Extended::parse(b"1.19e4932"), None);
        assert!(Extended::parse(b"3.7e-4951").is_some(), "the smallest are there too");
    }

    proptest! {
        /// A text of at most 17 digits behind the point and 19 in all is exact enough to come back.
        #[test]
        fn short_texts_come_back(whole in 0..10_u64, fraction in 0..10_u64.pow(17)) {
            let text = format!("{whole}.{fraction:017}1");
            let text = text[..text.len() - 1].trim_end_matches('0').trim_end_matches('.');
            prop_assert_eq!(Extended::parse(text.as_bytes()).unwrap().text(), text);
        }

        /// Where 53 bits are enough for both the summands and the sum, the processor agrees.
        #[test]
        fn sums_of_small_binary_fractions_are_exact(
            a in -1_i64 << 40..1 << 40,
            b in -1_i64 << 40..1 << 40,
        ) {
            let exact = |number: f64| {
                let text = format!("{number:.10}");
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            };
            let (x, y) = (a as f64 / 1024.0, b as f64 / 1024.0);
            prop_assert_eq!(sum(&exact(x), &exact(y)).unwrap(), exact(x + y));
        }

        #[test]
        fn order_does_not_matter(a in "-?[0-9]{1,25}(\\.[0-9]{1,25})?(e-?[0-9]{1,4})?",
            b in "-?[0-9]{1,25}(\\.[0-9]{1,25})?(e-?[0-9]{1,4})?") {
            prop_assert_eq!(sum(&a, &b), sum(&b, &a));
        }

        #[test]
        fn any_text_is_a_number_or_refused(text: Vec<u8>, likely in "[-+0-9.eExXpPinf]{0,40}") {
            let _ = Extended::parse(&text).map(Extended::text);
            let _ = Extended::parse(likely.as_bytes()).map(Extended::text);
        }
    }
}
