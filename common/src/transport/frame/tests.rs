//! Frames survive a connection, and bytes that are none are refused without harm.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 4096;

fn heads() -> impl Strategy<Value = Head> {
    let kind = (1_u8..=7).prop_map(|byte| Kind::from_byte(byte).expect("a kind"));
    let class = prop::sample::select(Class::ALL.to_vec());
    (kind, class, any::<(u32, u32, u64)>()).prop_map(|(kind, class, (group, epoch, call))| Head {
        kind,
        class,
        group: GroupId(group),
        epoch: Epoch(epoch),
        call,
    })
}

proptest! {
    #[test]
    fn a_frame_is_read_as_it_was_written(
        head in heads(), body in vec(any::<u8>(), 0..300), rest in vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = encode(head, &body).to_vec();
        prop_assert_eq!(bytes.len(), HEADER + body.len());
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(decode(&bytes, LIMIT), Ok(Decoded::Whole { head, body: &body }));
    }

    /// Whatever has arrived so far: more is asked for, at most what the frame needs.
    #[test]
    fn the_front_of_a_frame_asks_for_the_rest(
        head in heads(), body in vec(any::<u8>(), 0..300), cut: prop::sample::Index,
    ) {
        let bytes = encode(head, &body);
        let front = &bytes[..cut.index(bytes.len())];
        match decode(front, LIMIT) {
            Ok(Decoded::Partial { need }) => {
                prop_assert!(need > front.len() && need <= bytes.len());
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn a_flipped_byte_is_noticed_as_soon_as_it_is_there(
        head in heads(), body in vec(any::<u8>(), 0..300), at: prop::sample::Index, bits in 1_u8..,
    ) {
        let mut bytes = encode(head, &body).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        let read = decode(&bytes, LIMIT);
        prop_assert!(read.is_err(), "{read:?}");
    }

    #[test]
    fn any_bytes_are_refused_or_ask_for_a_bounded_rest(bytes in vec(any::<u8>(), 0..200)) {
        judge(&bytes)?;
    }

    /// Also where the checksums are right, so that the fields are what is looked at.
    #[test]
    fn any_fields_are_refused_by_name_or_taken(
        fields in vec(any::<u8>(), 20), body in vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&fields);
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend_from_slice(&body);
        judge(&bytes)?;
    }

    /// A damaged length would make a reader wait for what nobody sends.
    #[test]
    fn a_damaged_length_is_noticed_before_the_body_is_awaited(head in heads(), bits in 1_u32..) {
        let mut bytes = encode(head, b"body")[..HEADER].to_vec();
        let length = 4 ^ bits;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        prop_assert!(decode(&bytes, u32::MAX as usize).is_err());
    }
}

fn judge(bytes: &[u8]) -> Result<(), TestCaseError> {
    match decode(bytes, LIMIT) {
        Ok(Decoded::Partial { need }) => {
            prop_assert!(need > bytes.len() && need <= HEADER + LIMIT);
        }
        Ok(Decoded::Whole { head, body }) => {
            let written = encode(head, body);
            prop_assert_eq!(&written[..], &bytes[..written.len()], "one encoding per frame");
        }
        Err(_) => {}
    }
    Ok(())
}

/// Files that fuzzing or thinking found interesting.
#[test]
fn the_corpus_is_decoded_without_harm() {
    for bytes in crate::golden::corpus("frame") {
        judge(&bytes).unwrap();
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_by_its_length_alone() {
    let bytes = encode(Head::new(Kind::Call, Class::Bulk, 1), &[0; LIMIT + 1]);
    let refused = Err(FrameError::TooLarge { size: LIMIT + 1, limit: LIMIT });
    assert_eq!(decode(&bytes[..4], LIMIT), refused);
    assert!(matches!(decode(&bytes, LIMIT + 1), Ok(Decoded::Whole { .. })));
    let largest = u32::MAX.to_le_bytes();
    assert!(matches!(decode(&largest, LIMIT), Err(FrameError::TooLarge { .. })));
}

#[test]
fn what_this_version_does_not_know_is_refused_never_skipped() {
    let refused = |at: usize, byte: u8| {
        let mut bytes = encode(Head::new(Kind::Call, Class::Data, 1), b"body").to_vec();
        bytes[at] = byte;
        let checksum = crc32c::crc32c(&bytes[..COVERED]);
        bytes[COVERED..HEADER].copy_from_slice(&checksum.to_le_bytes());
        decode(&bytes, LIMIT).unwrap_err()
    };
    assert_eq!(refused(4, 0), FrameError::Kind(0));
    assert_eq!(refused(4, 8), FrameError::Kind(8));
    assert_eq!(refused(5, 3), FrameError::Class(3));
    assert_eq!(refused(7, 0x80), FrameError::Flags(0x8000));
}

#[test]
fn frames_keep_their_bytes() {
    let full = |kind| Head {
        kind,
        class: Class::Bulk,
        group: GroupId(0x0102_0304),
        epoch: Epoch(0x0506_0708),
        call: 0x1112_1314_1516_1718,
    };
    let frames = [
        ("call", encode(full(Kind::Call), b"hello")),
        ("reply", encode(full(Kind::Reply), b"")),
        ("refusal", encode(Head::new(Kind::Refusal, Class::Data, 2), b"no such key")),
        ("cast", encode(Head::new(Kind::Cast, Class::Data, 0), b"x")),
        ("ping", encode(Head::new(Kind::Ping, Class::Control, 77), b"")),
        ("pong", encode(Head::new(Kind::Pong, Class::Control, 77), b"")),
        ("goodbye", encode(Head::new(Kind::Goodbye, Class::Control, 0), b"bye")),
    ]
    .map(|(name, bytes)| (name, bytes.to_vec()));
    crate::golden::check(include_str!("../../../golden/frame.v1.txt"), &frames);
}
