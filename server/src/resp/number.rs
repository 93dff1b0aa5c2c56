//! Decimal numbers, as Redis reads and writes them.

/// A number that is exactly the decimal form of an `i64`: no spaces, no plus, no leading zeros, no
/// `-0`. Redis takes nothing else where it asks for an integer.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut magnitude: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // At most 19 digits: this cannot overflow.
        magnitude = magnitude * 10 + u64::from(digit - b'0');
    }
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// The decimal form of a number, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    /// The decimal form of `number`.
    pub fn new(number: i64) -> Self {
        let mut this = Self { digits: [b'0'; 20], start: 20 };
        let mut rest = number.unsigned_abs();
        loop {
            this.start -= 1;
            this.digits[this.start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            this.start -= 1;
            this.digits[this.start] = b'-';
        }
        this
    }

    /// Its characters.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_canonical_form_is_a_number() {
        for bad in [
            "",
            "-",
            "+1",
            " 1",
            "1 ",
            "01",
            "-0",
            "-01",
            "1.0",
            "1e3",
            "0x1",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "99999999999999999999",
            "१",
        ] {
            assert_eq!(parse_i64(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_number_comes_back(number in prop_oneof![any::<i64>(), -200..200_i64,
            Just(i64::MIN), Just(i64::MAX)]) {
            let (text, expected) = (Decimal::new(number), number.to_string());
            prop_assert_eq!(text.as_bytes(), expected.as_bytes());
            prop_assert_eq!(parse_i64(text.as_bytes()), Some(number));
        }

        #[test]
        fn what_is_taken_is_canonical(text in "[-+0-9 ]{0,21}") {
            let expected = text.parse::<i64>().ok().filter(|n| n.to_string() == text);
            prop_assert_eq!(parse_i64(text.as_bytes()), expected);
        }
    }
}
