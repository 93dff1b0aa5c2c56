use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn vote() -> Vote {
    Vote { term: 3, node: NodeId(2), established: true }
}

fn at(term: u64, index: u64) -> LogPos {
    LogPos { term, index }
}

fn requests() -> Vec<Request> {
    let candidacy = |cause| Candidacy {
        vote: Vote { term: 4, node: NodeId(300), established: false },
        last: Some(at(3, 7)),
        cause,
    };
    vec![
        Request::Append {
            stream: Some(9),
            vote: vote(),
            previous: Some(at(2, 5)),
            committed: Some(at(2, 4)),
            entries: vec![Bytes::from_static(b"one"), Bytes::from_static(b"")],
        },
        Request::Append {
            stream: None,
            vote: vote(),
            previous: None,
            committed: None,
            entries: Vec::new(),
        },
        Request::PreVote(candidacy(Cause::Silence)),
        Request::Vote(candidacy(Cause::Transfer)),
        Request::Transfer { vote: vote(), to: NodeId(1), last: Some(at(3, 8)) },
        Request::Forward { body: Bytes::from_static(b"body") },
        Request::ReadIndex { by: Proof::Round },
        Request::ReadIndex { by: Proof::Lease },
        Request::Offer { id: 5, vote: vote(), meta: Bytes::from_static(b"meta") },
        Request::Chunk {
            id: 5,
            number: 1,
            last: true,
            body: Bytes::from_static(b"part"),
            crc32c: 0xdead_beef,
        },
        Request::Install { id: 5, vote: vote() },
        Request::Ping,
        Request::Applied { at: at(3, 7) },
        Request::State { at: at(3, 7) },
        Request::Repair { at: at(3, 7), state: StateHash { items: 2, hash: 9 } },
        Request::Snapshot { after: at(3, 7) },
        Request::Read { body: Bytes::from_static(b"read") },
    ]
}

fn replies() -> Vec<Reply> {
    let appended = |outcome| Reply::Appended { outcome, applied: Some(at(1, 2)) };
    vec![
        appended(Appended::Durable(Some(at(3, 7)))),
        appended(Appended::Conflict),
        appended(Appended::Superseded(vote())),
        Reply::Voted { vote: vote(), last: None, granted: true },
        Reply::Transferred(TransferAnswer::Accepted),
        Reply::Transferred(TransferAnswer::VoteChanged { actual: vote() }),
        Reply::Transferred(TransferAnswer::Behind { actual: Some(at(2, 2)) }),
        Reply::Forwarded { body: Bytes::from_static(b"answer") },
        Reply::ReadIndexed(ReadIndexed::At { index: at(3, 7), clock: Hlc::new(1, 2) }),
        Reply::ReadIndexed(ReadIndexed::NotLeader { leader: Some(NodeId(3)) }),
        Reply::ReadIndexed(ReadIndexed::Failed("why".into())),
        Reply::Wanted { next: 1 },
        Reply::Took { next: 2 },
        Reply::Installed(vote()),
        Reply::Rejected { reason: "old".into() },
        Reply::Pong { wall_millis: 1_700_000_000_000 },
        Reply::Applied { at: Some(at(3, 7)) },
        Reply::State { state: Some(StateHash { items: 2, hash: 9 }) },
        Reply::Repairing,
        Reply::Read { body: Bytes::from_static(b"told") },
    ]
}

#[test]
fn every_message_survives_the_way_there_and_back() {
    for request in requests() {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    for reply in replies() {
        assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
    }
}

/// A member of the next release must understand these.
#[test]
fn messages_keep_their_bytes() {
    let requests: Vec<String> = requests().iter().map(|r| hex(&r.encode()[14..])).collect();
    assert_eq!(
        requests,
        [
            "00010903020101020501020402036f6e6500",
            "0000030201000000",
            "0104fb2c010001030700",
            "0204fb2c010001030701",
            "0303020101010308",
            "0404626f6479",
            "0500",
            "0501",
            "0605030201046d657461",
            "070501010470617274fcefbeadde",
            "0805030201",
            "09",
            "0a0307",
            "0c0307",
            "0d03070209",
            "0e0307",
            "0f0472656164",
        ]
    );
    let replies: Vec<String> = replies().iter().map(|r| hex(&r.encode()[14..])).collect();
    assert_eq!(
        replies,
        [
            "0000010307010102",
            "0001010102",
            "0002030201010102",
            "010302010001",
            "0200",
            "0201030201",
            "0202010202",
            "0306616e73776572",
            "04000307fc02000100",
            "04010103",
            "040203776879",
            "0501",
            "0602",
            "07030201",
            "08036f6c64",
            "09fd0068e5cf8b010000",
            "0a010307",
            "0c010209",
            "0d",
            "0e04746f6c64",
        ]
    );
    let whole = Request::ReadIndex { by: Proof::Lease }.encode();
    assert_eq!(hex(&whole), "544c52510100020000007a0d225e0501");
}

#[test]
fn a_message_over_the_limit_is_refused_before_it_is_read() {
    let mut bytes = Request::Forward { body: Bytes::from_static(b"x") }.encode().to_vec();
    bytes[6..10].copy_from_slice(&(MAX_BYTES as u32 + 1).to_le_bytes());
    let refused = Request::decode(&bytes).unwrap_err();
    assert!(matches!(refused, CodecError::TooLarge { .. }), "{refused:?}");
}

#[test]
fn a_reply_is_not_taken_for_a_request() {
    let refused = Request::decode(&Reply::Took { next: 0 }.encode()).unwrap_err();
    assert!(matches!(refused, CodecError::Magic { .. }), "{refused:?}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
        let _ = Request::decode(&bytes);
        let _ = Reply::decode(&bytes);
        // Also behind a valid frame, where lengths may claim what is not there.
        let _ = codec::decode_body::<Request>(&bytes);
        let _ = codec::decode_body::<Reply>(&bytes);
    }

    #[test]
    fn no_damaged_message_makes_the_decoder_panic(
        which in 0_usize..12,
        place: prop::sample::Index,
        value: u8,
        cut: prop::sample::Index,
    ) {
        let mut body = codec::encode_body(&requests()[which]);
        let place = place.index(body.len());
        body[place] = value;
        let _ = codec::decode_body::<Request>(&body);
        let _ = codec::decode_body::<Request>(&body[..cut.index(body.len())]);
    }
}
