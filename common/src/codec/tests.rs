//! Values survive the codec, and bytes that are none are refused without harm.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::Deserialize;

use super::*;

const FORMAT: Format = Format { magic: *b"TEST", version: 3 };
const LIMIT: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Value {
    Nothing,
    Number(u64),
    Large(u128),
    Text(String),
    Blob(Bytes),
    Many(Vec<u64>),
    Map(BTreeMap<String, Vec<u8>>),
    Pair(Option<i64>, bool),
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Nothing),
        any::<u64>().prop_map(Value::Number),
        any::<u128>().prop_map(Value::Large),
        ".{0,20}".prop_map(Value::Text),
        vec(any::<u8>(), 0..300).prop_map(|b| Value::Blob(b.into())),
        vec(any::<u64>(), 0..50).prop_map(Value::Many),
        btree_map("[a-z]{0,4}", vec(any::<u8>(), 0..9), 0..9).prop_map(Value::Map),
        any::<(Option<i64>, bool)>().prop_map(|(a, b)| Value::Pair(a, b)),
    ]
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(value in values()) {
        let bytes = encode(FORMAT, &value);
        prop_assert_eq!(decode::<Value>(FORMAT, &bytes, LIMIT), Ok(value.clone()));
        prop_assert_eq!(decode_body::<Value>(&encode_body(&value)), Ok(value));
    }

    #[test]
    fn one_changed_byte_is_noticed(value in values(), at: prop::sample::Index, bits in 1_u8..) {
        let mut bytes = encode(FORMAT, &value).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        prop_assert!(decode::<Value>(FORMAT, &bytes, LIMIT).is_err());
    }

    #[test]
    fn a_missing_or_an_added_end_is_noticed(value in values(), at: prop::sample::Index) {
        let bytes = encode(FORMAT, &value);
        let cut = decode::<Value>(FORMAT, &bytes[..at.index(bytes.len())], LIMIT);
        prop_assert!(matches!(cut, Err(CodecError::Truncated { .. })), "{cut:?}");
        let longer = [&bytes[..], b"x"].concat();
        prop_assert_eq!(decode::<Value>(FORMAT, &longer, LIMIT), Err(CodecError::Trailing(1)));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode::<Value>(FORMAT, &bytes, LIMIT);
        let _ = decode_body::<Value>(&bytes);
        let _ = decode_body::<Vec<String>>(&bytes);
    }
}

/// A regression: the length of a text was believed, and asked for more memory than there is.
#[test]
fn a_length_that_lies_is_refused_before_memory_is_asked_for() {
    for length in [1_u64 << 20, 1 << 40, 1 << 60, u64::MAX] {
        let mut bytes = vec![3, 253];
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(b"short");
        assert!(matches!(decode_body::<Value>(&bytes), Err(CodecError::Body(_))), "{length}");
        bytes[0] = 4;
        assert!(matches!(decode_body::<Value>(&bytes), Err(CodecError::Body(_))), "{length}");
    }
}

/// The bound follows the input, whatever its size, and is never in the way of a real value.
#[test]
fn values_at_the_steps_of_the_bound_are_decoded() {
    for size in [4 << 10, 512 << 10] {
        for size in size - 20..size + 20 {
            let value = Value::Blob(vec![7; size].into());
            assert_eq!(decode_body::<Value>(&encode_body(&value)), Ok(value));
        }
    }
    let smallest = vec![0_u128; 4000];
    assert_eq!(decode_body::<Vec<u128>>(&encode_body(&smallest)), Ok(smallest));
}

#[test]
fn a_refusal_says_what_it_met() {
    let bytes = encode(FORMAT, &Value::Number(7)).to_vec();
    let refused = |bytes: &[u8], limit| decode::<Value>(FORMAT, bytes, limit).unwrap_err();
    let mut other = bytes.clone();
    other[0] = b'B';
    assert_eq!(refused(&other, LIMIT).to_string(), "not a TEST: it begins with [42, 45, 53, 54]");
    let mut newer = bytes.clone();
    newer[4] = 4;
    let text = "TEST has layout version 4, this build reads 3";
    assert_eq!(refused(&newer, LIMIT).to_string(), text);
    assert_eq!(refused(&bytes, 1), CodecError::TooLarge { length: 2, limit: 1 });
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&damaged, LIMIT), CodecError::Checksum);
}

#[test]
fn a_frame_keeps_its_bytes() {
    let bytes = encode(FORMAT, &Value::Pair(Some(-2), true));
    crate::golden::check(include_str!("../../golden/codec.v1.txt"), &[("pair", bytes.to_vec())]);
}
