//! Requests as a line of words, for a person with a terminal.

use bytes::Bytes;

/// The words of a line, or `None` when a quote is not closed or something follows it directly.
///
/// In double quotes `\n`, `\r`, `\t`, `\a`, `\b` and `\xHH` are what they are in C, and a backslash
/// before anything else gives that; in single quotes only `\'` is special. A zero byte ends the line.
pub(super) fn words(line: &[u8]) -> Option<Vec<Bytes>> {
    let end = line.iter().position(|byte| *byte == 0).unwrap_or(line.len());
    let mut rest = &line[..end];
    let mut words = Vec::new();
    loop {
        rest = rest.trim_ascii_start_c();
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        rest = one(rest, &mut word)?;
        words.push(word.into());
    }
}

/// Reads one word and gives what follows it.
fn one<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return Some(rest),
            [space, ..] if is_space(*space) => return Some(rest),
            [quote @ (b'"' | b'\''), inside @ ..] => {
                rest = if *quote == b'"' { double(inside, word)? } else { single(inside, word)? };
                // A closing quote ends the word.
                return match rest {
                    [next, ..] if !is_space(*next) => None,
                    _ => Some(rest),
                };
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

fn double<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex(*high) << 4 | hex(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        }
    }
}

fn single<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        }
    }
}

/// What C's `isspace` says in its own locale: Rust's `is_ascii_whitespace` lacks the vertical tab.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

trait TrimStart {
    fn trim_ascii_start_c(&self) -> &Self;
}

impl TrimStart for [u8] {
    fn trim_ascii_start_c(&self) -> &[u8] {
        let start = self.iter().position(|byte| !is_space(*byte)).unwrap_or(self.len());
        &self[start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_redis_splits_them() {
        type Words = Option<&'static [&'static [u8]]>;
        let table: [(&[u8], Words); 17] = [
            (b"", Some(&[])),
            (b" \t\x0b ", Some(&[])),
            (b"GET key", Some(&[b"GET", b"key"])),
            (b"  SET  k   v  ", Some(&[b"SET", b"k", b"v"])),
            (br#"SET k "a b""#, Some(&[b"SET", b"k", b"a b"])),
            (br#"SET k """#, Some(&[b"SET", b"k", b""])),
            (br#"SET k "\x41\n\r\t\a\b\\\"\q""#, Some(&[b"SET", b"k", b"A\n\r\t\x07\x08\\\"q"])),
            (br#"SET k "\xZZ""#, Some(&[b"SET", b"k", b"xZZ"])),
            (br"SET k 'a \n \' b'", Some(&[b"SET", b"k", br"a \n ' b"])),
            (br#"SET k a"b c""#, Some(&[b"SET", b"k", b"ab c"])),
            (b"GET k\0 more", Some(&[b"GET", b"k"])),
            (br#"SET k "open"#, None),
            (br"SET k 'open", None),
            (br#"SET k "a"b"#, None),
            (br"SET k 'a'b", None),
            (br#"SET k "open\""#, None),
            (br#"SET k "\"#, None),
        ];
        for (line, expected) in table {
            let expected = expected
                .map(|words| words.iter().map(|w| Bytes::copy_from_slice(w)).collect::<Vec<_>>());
            assert_eq!(words(line), expected, "{:?}", String::from_utf8_lossy(line));
        }
    }
}
