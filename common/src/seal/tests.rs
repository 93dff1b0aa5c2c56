//! What is not exactly what this cluster handed out is refused, and the refusal says what it is.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::clock::{Dot, Hlc};
use crate::consistency::Level;
use crate::ids::{
    Actor, ClientId, Epoch, GroupId, KeyspaceId, LogPos, Origin, PartitionId, SiteId,
};
use crate::receipt::{DotsReceipt, LogReceipt, OriginReceipt, Receipt};
use crate::token::{LogToken, Token};

pub(crate) const CLUSTER: ClusterId = ClusterId(0x0123_4567_89ab_cdef);

pub(crate) fn secret() -> ClusterSecret {
    ClusterSecret::new(*b"sixteen letters.")
}

fn receipts() -> [(&'static str, Receipt); 4] {
    let log = LogReceipt {
        cluster: CLUSTER,
        epoch: Epoch(2),
        group: GroupId(0),
        at: LogPos { term: 7, index: 123_456 },
        sub: 3,
        stamp: Hlc::new(0x0001_8000_0000, 9),
        client: None,
    };
    let dots = DotsReceipt {
        cluster: CLUSTER,
        epoch: Epoch(1),
        keyspace: KeyspaceId(4),
        token: u64::MAX,
        partition: PartitionId(5),
        dot: Dot::new(Actor(0xfeed), 6),
        level: Level::Exactly(2),
    };
    let origin = OriginReceipt {
        cluster: CLUSTER,
        dot: Dot::new(Origin { site: SiteId(1), epoch: 2 }, 3),
        stamp: Hlc::new(4, 5),
    };
    [
        ("log", log.into()),
        ("log-of-client", LogReceipt { client: Some((ClientId(99), 100)), ..log }.into()),
        ("dots", dots.into()),
        ("origin", origin.into()),
    ]
}

/// A sealed receipt whose bytes are changed by `change`, with the checksum made right again.
fn changed(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = receipts()[0].1.seal(&secret());
    bytes.truncate(bytes.len() - CHECKSUM);
    change(&mut bytes);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn open(bytes: &[u8]) -> Result<Receipt, SealError> {
    Receipt::open(bytes, &secret(), CLUSTER)
}

proptest! {
    #[test]
    fn a_damaged_one_is_called_damaged(
        which in 0_usize..4, at: prop::sample::Index, bits in 1_u8..,
    ) {
        let mut bytes = receipts()[which].1.seal(&secret());
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        let refused = open(&bytes);
        prop_assert!(matches!(refused, Err(SealError::Damaged { .. })), "{refused:?}");
    }

    #[test]
    fn a_shortened_text_is_called_damaged(which in 0_usize..4, keep: prop::sample::Index) {
        let text = receipts()[which].1.seal_text(&secret());
        let refused = Receipt::open_text(&text[..keep.index(text.len())], &secret(), CLUSTER);
        prop_assert!(matches!(refused, Err(SealError::Damaged { .. })), "{refused:?}");
    }

    /// Whoever changes the content and makes the checksum right again lacks the secret.
    #[test]
    fn a_changed_one_is_never_taken(at: prop::sample::Index, bits in 1_u8..) {
        let bytes = changed(|bytes| {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        });
        let refused = open(&bytes);
        prop_assert!(
            matches!(
                refused,
                Err(SealError::Forged(_)
                    | SealError::OtherCluster { .. }
                    | SealError::Version { .. }
                    | SealError::NotA(_))
            ),
            "{refused:?}"
        );
    }

    #[test]
    fn any_bytes_and_any_text_are_refused_without_harm(
        bytes in vec(any::<u8>(), 0..200), text in ".{0,200}",
    ) {
        prop_assert!(open(&bytes).is_err());
        prop_assert!(Receipt::open_text(&text, &secret(), CLUSTER).is_err());
        prop_assert!(Token::open_text(&text, &secret(), CLUSTER).is_err());
    }

    #[test]
    fn base32_has_one_text_per_value(bytes in vec(any::<u8>(), 0..60), text in "[a-z2-7]{0,40}") {
        let encoded = base32::encode(&bytes);
        prop_assert_eq!(base32::decode(&encoded).unwrap(), bytes);
        if let Ok(decoded) = base32::decode(&text) {
            prop_assert_eq!(base32::encode(&decoded), text);
        }
    }
}

#[test]
fn sealing_keeps_a_receipt() {
    for (_, receipt) in receipts() {
        assert_eq!(open(&receipt.seal(&secret())).as_ref(), Ok(&receipt));
        let text = receipt.seal_text(&secret());
        assert_eq!(Receipt::open_text(&text, &secret(), CLUSTER), Ok(receipt));
    }
}

#[test]
fn one_of_a_later_version_is_called_newer_not_damaged() {
    let refused = open(&changed(|bytes| bytes[1] += 1)).unwrap_err();
    assert_eq!(refused, SealError::Version { kind: "receipt", found: 2, supported: 1 });
    let text = "this receipt has version 2, this build reads 1; ask an upgraded node";
    assert_eq!(refused.to_string(), text);
    // Also when its layout is one that this build cannot even guess.
    let alien = changed(|bytes| {
        bytes.truncate(2);
        bytes[1] = 200;
        bytes.extend_from_slice(b"whatever");
    });
    assert!(matches!(open(&alien), Err(SealError::Version { found: 200, .. })));
}

#[test]
fn a_token_is_no_receipt_and_a_receipt_no_token() {
    let receipt = receipts()[0].1.seal(&secret());
    let refused = Token::open(&receipt, &secret(), CLUSTER);
    assert_eq!(refused, Err(SealError::NotA("token")));
    let token = Token::Log(LogToken::new(CLUSTER, Epoch(0))).seal(&secret());
    assert_eq!(open(&token), Err(SealError::NotA("receipt")));
}

/// Which cluster it is of is said first, as that is what its holder can act on.
#[test]
fn one_of_another_cluster_is_refused_by_its_name() {
    let bytes = receipts()[0].1.seal(&secret());
    let other_secret = ClusterSecret::new([7; 16]);
    for secret in [&secret(), &other_secret] {
        let refused = Receipt::open(&bytes, secret, ClusterId(5)).unwrap_err();
        let expected = ClusterId(5);
        assert_eq!(refused, SealError::OtherCluster { kind: "receipt", found: CLUSTER, expected });
        assert!(refused.to_string().contains("0123456789abcdef"));
    }
    let forged = Receipt::open(&bytes, &other_secret, CLUSTER);
    assert_eq!(forged, Err(SealError::Forged("receipt")));
}

/// The tag is right, so a node of this cluster made it; but not with this layout.
#[test]
fn one_that_is_sealed_but_not_of_the_layout_is_called_malformed() {
    let kind = Kind { name: "receipt", magic: b'r', version: 1, limit: 512 };
    let refused = open(&kind.seal(&0xff_u8, &secret()));
    assert!(matches!(refused, Err(SealError::Malformed { .. })), "{refused:?}");
}

#[test]
fn one_over_the_limit_is_refused_before_it_is_looked_at() {
    let refused = open(&vec![b'r'; 513]);
    assert_eq!(refused, Err(SealError::TooLarge { kind: "receipt", size: 513, limit: 512 }));
    let refused = Receipt::open_text(&"r".repeat(4096), &secret(), CLUSTER);
    assert!(matches!(refused, Err(SealError::TooLarge { .. })));
}

#[test]
fn the_secret_is_not_printed() {
    assert_eq!(format!("{:?}", secret()), "ClusterSecret(..)");
}

#[test]
fn receipts_keep_their_bytes() {
    let fixture = include_str!("../../golden/receipt.v1.txt");
    let all = receipts();
    let written: Vec<_> = all.iter().map(|(name, r)| (*name, r.seal(&secret()))).collect();
    crate::golden::check(fixture, &written);
    for ((_, bytes), (_, receipt)) in crate::golden::read(fixture).iter().zip(all) {
        assert_eq!(open(bytes), Ok(receipt));
    }
    // The text is what clients keep.
    let text = include_str!("../../golden/receipt-text.v1.txt");
    assert_eq!(receipts()[0].1.seal_text(&secret()), text.trim());
}
