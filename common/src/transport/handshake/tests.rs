//! Introductions: read as written, judged by name, and never a way to do harm.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn hello() -> Hello {
    Hello {
        versions: (OLDEST, NEWEST),
        cluster: ClusterId(0xc1),
        epoch: Epoch(2),
        node: NodeId(3),
        incarnation: Incarnation(4),
        expected: NodeId(5),
        class: Class::Bulk,
        frame_limit: 1 << 20,
        name: "prod".to_owned(),
        address: "10.0.0.3:7379".to_owned(),
    }
}

fn identity() -> Identity {
    Identity {
        cluster: ClusterId(0xc1),
        offered: None,
        name: "prod".to_owned(),
        epoch: Epoch(2),
        node: NodeId(5),
    }
}

fn read(bytes: &[u8]) -> Result<Greeting, GreetingError> {
    let (header, body) = bytes.split_first_chunk().ok_or(GreetingError::Malformed("header"))?;
    let length = length(*header)?;
    decode(*header, body.get(..length).ok_or(GreetingError::Malformed("body"))?)
}

fn hellos() -> impl Strategy<Value = Hello> {
    let numbers = any::<((u16, u16), u64, u32, u64, u64, u64, u32)>();
    let class = prop::sample::select(Class::ALL.to_vec());
    (numbers, class, ".{0,60}", ".{0,60}").prop_map(|(numbers, class, name, address)| {
        let (versions, cluster, epoch, node, incarnation, expected, frame_limit) = numbers;
        Hello {
            versions,
            cluster: ClusterId(cluster),
            epoch: Epoch(epoch),
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
            expected: NodeId(expected),
            class,
            frame_limit,
            name,
            address,
        }
    })
}

proptest! {
    #[test]
    fn a_greeting_is_read_as_it_was_written(hello in hellos(), reason in ".{0,100}") {
        for greeting in [
            Greeting::Hello(hello.clone()),
            Greeting::Welcome(hello),
            Greeting::Rejected(reason),
        ] {
            prop_assert_eq!(read(&encode(&greeting)), Ok(greeting));
        }
    }

    #[test]
    fn a_flipped_byte_is_noticed(hello in hellos(), at: prop::sample::Index, bits in 1_u8..) {
        let mut bytes = encode(&Greeting::Hello(hello));
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        // Also behind a right magic, length and checksum.
        let mut whole = MAGIC.to_vec();
        whole.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
        whole.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        whole.extend_from_slice(&bytes);
        if let Ok(greeting) = read(&whole) {
            prop_assert!(read(&encode(&greeting)).is_ok());
        }
    }

    /// Long texts of any alphabet are cut to what fits, at a letter's boundary.
    #[test]
    fn long_texts_are_cut_not_refused(name in ".{0,400}", reason in ".{0,1500}") {
        let bytes = encode(&Greeting::Hello(Hello { name: name.clone(), ..hello() }));
        prop_assert!(bytes.len() <= HEADER + LIMIT);
        let Ok(Greeting::Hello(read_back)) = read(&bytes) else { panic!("not read back") };
        prop_assert!(name.starts_with(&read_back.name));
        let bytes = encode(&Greeting::Rejected(reason.clone()));
        prop_assert!(bytes.len() <= HEADER + LIMIT);
        let Ok(Greeting::Rejected(read_back)) = read(&bytes) else { panic!("not read back") };
        prop_assert!(reason.starts_with(&read_back));
    }
}

#[test]
fn the_corpus_is_read_without_harm() {
    for bytes in crate::golden::corpus("handshake") {
        let _ = read(&bytes);
    }
}

#[test]
fn a_greeting_is_refused_by_what_is_wrong_with_it() {
    let bytes = encode(&Greeting::Hello(hello()));
    let mut http = bytes.clone();
    http[..4].copy_from_slice(b"GET ");
    let refused = read(&http).unwrap_err();
    assert_eq!(refused, GreetingError::Magic(*b"GET "));
    assert!(refused.to_string().contains("does not speak this protocol"));
    let mut long = bytes.clone();
    long[4..6].copy_from_slice(&1025_u16.to_le_bytes());
    assert_eq!(read(&long), Err(GreetingError::TooLarge(1025)));
    let mut damaged = bytes;
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(read(&damaged), Err(GreetingError::Checksum));
}

/// A later version may add fields to a hello: they are not looked at.
#[test]
fn fields_behind_the_known_ones_are_ignored() {
    let mut bytes = encode(&Greeting::Hello(hello()));
    bytes.extend_from_slice(b"more");
    let body = bytes.split_off(HEADER);
    bytes[4..6].copy_from_slice(&(body.len() as u16).to_le_bytes());
    bytes[6..10].copy_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    assert_eq!(read(&bytes), Ok(Greeting::Hello(hello())));
}

#[test]
fn an_introduction_is_judged_by_name() {
    assert_eq!(identity().judge(&hello()), Ok(()));
    let refused = |hello: Hello| identity().judge(&hello).unwrap_err();
    let me = "this is node 5 of cluster 'prod' (c00000000000000c1)";
    let other_name = Hello { name: "staging".to_owned(), cluster: ClusterId(0xc2), ..hello() };
    assert_eq!(
        refused(other_name),
        format!("{me}, you are of cluster 'staging' (c00000000000000c2)")
    );
    let same_name = refused(Hello { cluster: ClusterId(0xc2), ..hello() });
    assert!(same_name.contains("(c00000000000000c2): the same name, another cluster"));
    let looking = refused(Hello { expected: NodeId(9), ..hello() });
    assert_eq!(looking, format!("{me}, you look for node 9: check the addresses"));
    let twin = refused(Hello { node: NodeId(5), ..hello() });
    assert!(twin.ends_with("and you claim to be node 5 too"));
    let epoch = refused(Hello { epoch: Epoch(1), ..hello() });
    assert!(epoch.contains("lives in epoch 2, you live in epoch 1"));
    for versions in [(2, 9), (0, 0)] {
        let refused = refused(Hello { versions, ..hello() });
        let said =
            format!("speaks protocol versions 1 to 1, you speak {} to {}", versions.0, versions.1);
        assert!(refused.contains(&said), "{refused}");
    }
    assert_eq!(identity().judge(&Hello { versions: (1, 7), ..hello() }), Ok(()));
}

/// A node that does not know its cluster's id yet takes part in one cluster only.
#[test]
fn a_newcomer_accepts_one_cluster_id_under_its_name() {
    let mut newcomer = Identity { cluster: UNKNOWN, ..identity() };
    assert_eq!(newcomer.judge(&hello()), Ok(()));
    assert_eq!(newcomer.judge(&Hello { cluster: UNKNOWN, ..hello() }), Ok(()));
    newcomer.offered = Some(ClusterId(0xc1));
    assert_eq!(newcomer.judge(&hello()), Ok(()));
    let refused = newcomer.judge(&Hello { cluster: ClusterId(0xc2), ..hello() }).unwrap_err();
    assert!(refused.contains("about to join c00000000000000c1"), "{refused}");
}

#[test]
fn greetings_keep_their_bytes() {
    let greetings = [
        ("hello", Greeting::Hello(hello())),
        ("welcome", Greeting::Welcome(Hello { class: Class::Control, ..hello() })),
        ("rejected", Greeting::Rejected("not here".to_owned())),
    ];
    let fixture = include_str!("../../../golden/handshake.v1.txt");
    let written = greetings.each_ref().map(|(name, greeting)| (*name, encode(greeting)));
    crate::golden::check(fixture, &written);
    for ((_, bytes), (_, greeting)) in crate::golden::read(fixture).iter().zip(greetings) {
        assert_eq!(read(bytes), Ok(greeting));
    }
}
