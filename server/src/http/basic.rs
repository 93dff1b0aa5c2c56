//! Names and passwords over HTTP, RFC 7617, and the base64 of RFC 4648 that they come in.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes as base64.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 0x3f;
            let there = digit <= group.len();
            text.push(if there { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

/// The bytes of base64 with its padding; none for what is not that.
fn decode(text: &str) -> Option<Vec<u8>> {
    let groups = text.as_bytes().chunks_exact(4);
    if !groups.remainder().is_empty() {
        return None;
    }
    let count = groups.len();
    let mut bytes = Vec::with_capacity(count * 3);
    for (number, group) in groups.enumerate() {
        let padding = group.iter().rev().take_while(|digit| **digit == b'=').count();
        if padding > 2 || (padding > 0 && number + 1 < count) {
            return None;
        }
        let mut bits = 0_u32;
        for digit in &group[..4 - padding] {
            bits = bits << 6 | DIGITS.iter().position(|d| d == digit)? as u32;
        }
        bits <<= 6 * padding;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(bytes)
}

/// The name and the password of a header `Authorization`.
pub(super) fn credentials(header: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, text) = header.split_once(' ')?;
    let pair = decode(text.trim()).filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some((pair[..colon].to_vec(), pair[colon + 1..].to_vec()))
}

/// The header that says so.
pub(crate) fn authorization(name: &str, password: &str) -> String {
    format!("Basic {}", encode(format!("{name}:{password}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
        for wrong in ["Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9\u{e9}", "Zm9 "] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
        let header = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(authorization("Aladdin", "open sesame"), header);
        let (name, password) = credentials(header).unwrap();
        assert_eq!((&name[..], &password[..]), (&b"Aladdin"[..], &b"open sesame"[..]));
        for wrong in ["", "Basic", "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic Zm9v"] {
            assert_eq!(credentials(wrong), None, "{wrong}");
        }
    }
}
