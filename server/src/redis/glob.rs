//! Patterns of KEYS, SCAN and CONFIG GET.

/// Whether a text matches a pattern: `*` any bytes, `?` one byte, `[a-c]` and `[^a-c]` one byte of a
/// set or of none, and a backslash before a byte that stands for itself.
///
/// It takes time in proportion to the product of the lengths at most: on a mismatch only the last
/// `*` tries again, as an earlier one could match nothing more.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on when nothing fits: behind the last star, one byte further in the text.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match pattern {
            [b'*', rest @ ..] => {
                if rest.is_empty() {
                    return true;
                }
                pattern = rest;
                again = Some((rest, text));
                continue;
            }
            [] if text.is_empty() => return true,
            _ => {}
        }
        if let Some((true, rest)) = one(pattern, text) {
            (pattern, text) = (rest, &text[1..]);
            continue;
        }
        let Some((behind, [_, further @ ..])) = again else { return false };
        again = Some((behind, further));
        (pattern, text) = (behind, further);
    }
}

/// Whether the first element of a pattern fits the first byte of a text, and what follows it.
fn one<'p>(pattern: &'p [u8], text: &[u8]) -> Option<(bool, &'p [u8])> {
    let byte = *text.first()?;
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some((true, rest)),
        [b'[', rest @ ..] => Some(set(rest, byte)),
        [b'\\', escaped, rest @ ..] => Some((*escaped == byte, rest)),
        [literal, rest @ ..] => Some((*literal == byte, rest)),
    }
}

/// A set behind its bracket. One that is not closed ends with the pattern.
fn set(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [b'\\', escaped, rest @ ..] => {
                found |= *escaped == byte;
                rest
            }
            [b']', rest @ ..] => return (found != negated, rest),
            [] => return (found != negated, rest),
            [start, b'-', end, rest @ ..] => {
                found |= (*start.min(end)..=*start.max(end)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hbllo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            (r"h\*llo", "h*llo", true),
            (r"h\*llo", "hello", false),
            (r"[\]]", "]", true),
            ("[abc", "b", true),
            ("[a-]", "-", false),
            ("a\\", "a\\", true),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c*", "xxaxxcxxbxx", false),
            ("**a", "ba", true),
            ("?", "", false),
            ("*?", "", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_long_time() {
        let pattern = "*a".repeat(200) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(20_000).as_bytes()));
    }

    proptest! {
        #[test]
        fn any_pattern_and_text_are_answered(pattern: Vec<u8>, text: Vec<u8>, likely in r"[*?\[\]^a-c\\-]{0,20}") {
            let _ = matches(&pattern, &text);
            let _ = matches(likely.as_bytes(), &text);
        }

        /// Without sets: against the definition by recursion.
        #[test]
        fn stars_match_as_defined(pattern in "[*?ab]{0,8}", text in "[ab]{0,10}") {
            fn defined(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern, text) {
                    ([], text) => text.is_empty(),
                    ([b'*', rest @ ..], text) => (0..=text.len()).any(|n| defined(rest, &text[n..])),
                    ([b'?', rest @ ..], [_, text @ ..]) => defined(rest, text),
                    ([byte, rest @ ..], [first, text @ ..]) => byte == first && defined(rest, text),
                    (_, []) => false,
                }
            }
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()),
                defined(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
