//! The parser however its bytes arrive, and replies byte for byte.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

/// What came out of a stream: its requests, and the error that ended it.
type Outcome = (Vec<Request>, Option<ProtocolError>);

const LIMIT: usize = 4_096;

/// Feeds pieces one after the other, taking all requests after each.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut requests = Requests::new(LIMIT);
    let mut taken = Vec::new();
    for piece in pieces {
        requests.buffer().extend_from_slice(piece);
        loop {
            match requests.take() {
                Ok(Some(request)) => taken.push(request),
                Ok(None) => break,
                Err(error) => return (taken, Some(error)),
            }
        }
        // What is kept is one request, and a line that has not ended.
        let kept = requests.buffered();
        assert!(kept <= LIMIT + (64 << 10) + piece.len(), "{kept} bytes are kept");
    }
    (taken, None)
}

fn command(words: &[&[u8]]) -> Request {
    Request::Command(words.iter().map(|word| Bytes::copy_from_slice(word)).collect())
}

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/resp");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(path).expect("a file"))
        })
        .collect();
    files.sort();
    assert!(files.len() >= 25, "the corpus is not complete");
    files
}

#[test]
fn every_stream_of_the_corpus_is_read_alike_however_it_is_cut() {
    for (name, stream) in corpus() {
        let whole = feed([stream.as_slice()]);
        assert_eq!(feed(stream.chunks(1)), whole, "{name}, byte by byte");
        // Long streams are long in one stretch: its ends matter, and some places within.
        let step = stream.len() / 500 + 1;
        let near_ends = |cut: &usize| *cut < 40 || *cut + 40 > stream.len();
        for cut in (0..stream.len()).filter(|cut| near_ends(cut) || cut % step == 0) {
            let (start, end) = stream.split_at(cut);
            assert_eq!(feed([start, end]), whole, "{name}, cut at {cut}");
        }
    }
}

#[test]
fn streams_of_the_corpus_come_to_what_they_should() {
    let table: [(&str, usize, Option<&str>); 15] = [
        ("pipeline.resp", 24, None),
        ("inline.resp", 4, None),
        ("binary.resp", 1, None),
        ("any-line-end.resp", 1, None),
        ("too-large-then-fine.resp", 2, None),
        ("too-many-then-fine.resp", 2, None),
        ("cut-in-an-argument.resp", 1, None),
        ("bad-count.resp", 1, Some("invalid multibulk length")),
        ("bad-length.resp", 1, Some("invalid bulk length")),
        ("no-dollar.resp", 0, Some("expected '$', got 'P'")),
        ("no-dollar-but-zero.resp", 0, Some("expected '$', got '")),
        ("open-quote.resp", 1, Some("unbalanced quotes in request")),
        ("endless-line.resp", 0, Some("too big inline request")),
        ("endless-count.resp", 0, Some("too big mbulk count string")),
        ("endless-length.resp", 0, Some("too big bulk count string")),
    ];
    let corpus = corpus();
    for (name, count, error) in table {
        let (_, stream) = corpus.iter().find(|(file, _)| file == name).expect(name);
        let (requests, found) = feed([stream.as_slice()]);
        let found = found.map(|error| String::from_utf8(error.0.to_vec()).unwrap());
        assert_eq!((requests.len(), found.as_deref()), (count, error), "{name}");
    }
}

#[test]
fn a_request_over_the_limit_is_skipped_and_the_next_is_whole() {
    for (name, cost) in [("too-large-then-fine.resp", 5_100), ("too-many-then-fine.resp", 6_600)] {
        let corpus = corpus();
        let (_, stream) = corpus.iter().find(|(file, _)| file == name).expect(name);
        let expected = vec![Request::TooLarge { bytes: cost }, command(&[b"PING"])];
        assert_eq!(feed([stream.as_slice()]), (expected, None), "{name}");
    }
}

#[test]
fn what_is_skipped_is_not_kept() {
    let mut requests = Requests::new(LIMIT);
    requests.buffer().extend_from_slice(b"*2\r\n$3\r\nSET\r\n$100000000\r\n");
    assert_eq!(requests.take(), Ok(None));
    let piece = vec![b'x'; 64_000];
    for _ in 0..100_000 / 64 {
        requests.buffer().extend_from_slice(&piece);
        assert_eq!(requests.take(), Ok(None));
        assert_eq!(requests.buffered(), 0);
    }
    assert!(requests.buffer().capacity() < 1 << 20, "{}", requests.buffer().capacity());
}

#[test]
fn a_claimed_count_reserves_nothing() {
    let mut requests = Requests::new(usize::MAX);
    requests.buffer().extend_from_slice(b"*2147483647\r\n$536870912\r\n");
    assert_eq!(requests.take(), Ok(None));
    assert!(requests.buffer().capacity() < 1 << 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_words_come_out_as_they_went_in(
        commands in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6), 0..6),
        cut in 1..40_usize,
    ) {
        let mut stream = Vec::new();
        for words in &commands {
            stream.extend(format!("*{}\r\n", words.len()).bytes());
            for word in words {
                stream.extend(format!("${}\r\n", word.len()).bytes());
                stream.extend(word);
                stream.extend(b"\r\n");
            }
        }
        let expected = commands
            .iter()
            .map(|words| command(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()))
            .collect();
        prop_assert_eq!(feed(stream.chunks(cut)), (expected, None));
    }

    #[test]
    fn any_bytes_are_read_alike_however_they_are_cut(
        stream in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "[*$0-9a\"' \r\n-]{0,80}".prop_map(String::into_bytes),
            "(\\*[0-9-]{1,2}\r\n|\\$[0-9-]{1,2}\r\n|[a-z]{0,5}\r\n){0,12}".prop_map(String::into_bytes),
        ],
        cuts in prop::collection::vec(1..20_usize, 1..10),
    ) {
        let whole = feed([stream.as_slice()]);
        let mut pieces = Vec::new();
        let (mut rest, mut lengths) = (stream.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*lengths.next().unwrap()).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(feed(pieces), whole);
    }

    #[test]
    fn any_bytes_are_a_reply_or_refused(bytes: Vec<u8>, likely in "[-+:$*_#,%~=0-9a-z\r\n]{0,60}") {
        let _ = read(&bytes);
        let _ = read(likely.as_bytes());
    }

    #[test]
    fn what_is_written_is_read(value in value()) {
        let mut bytes = BytesMut::new();
        value.write(Version::V3, &mut bytes);
        let length = bytes.len();
        prop_assert_eq!(read(&bytes).unwrap(), Some((value, length)));
        for cut in 0..length {
            prop_assert_eq!(read(&bytes[..cut]).unwrap(), None);
        }
    }
}

/// Values that come back as they are: a simple text other than `OK` comes back as bytes.
fn value() -> impl Strategy<Value = Value> {
    let bytes = prop::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from);
    let leaf = prop_oneof![
        Just(Value::OK),
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        any::<bool>().prop_map(Value::Boolean),
        (-1000..1000_i32).prop_map(|number| Value::Double(f64::from(number) / 8.0)),
        "[A-Z]{1,5} [a-z ]{0,10}".prop_map(Value::error),
        bytes.clone().prop_map(Value::Verbatim),
        bytes.prop_map(Value::Bulk),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Set),
            prop::collection::vec((inner.clone(), inner), 0..3).prop_map(Value::Map),
        ]
    })
}

#[test]
fn replies_have_these_bytes() {
    let pair = || (Value::bulk("a"), Value::Integer(1));
    let table: [(Value, &str, &str); 20] = [
        (Value::OK, "+OK\r\n", "+OK\r\n"),
        (Value::error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
        (Value::Integer(-5), ":-5\r\n", ":-5\r\n"),
        (Value::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
        (Value::bulk("a\r\n"), "$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n"),
        (Value::bulk(""), "$0\r\n\r\n", "$0\r\n\r\n"),
        (Value::Null, "$-1\r\n", "_\r\n"),
        (Value::NullArray, "*-1\r\n", "_\r\n"),
        (Value::Array(vec![]), "*0\r\n", "*0\r\n"),
        (Value::Array(vec![Value::Null]), "*1\r\n$-1\r\n", "*1\r\n_\r\n"),
        (Value::Set(vec![Value::OK]), "*1\r\n+OK\r\n", "~1\r\n+OK\r\n"),
        (Value::Map(vec![pair()]), "*2\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:1\r\n"),
        (Value::Boolean(true), ":1\r\n", "#t\r\n"),
        (Value::Boolean(false), ":0\r\n", "#f\r\n"),
        (Value::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
        (Value::Double(10.0), "$2\r\n10\r\n", ",10\r\n"),
        (Value::Double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n"),
        (Value::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
        (Value::Double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n"),
        (Value::Verbatim("a".into()), "$1\r\na\r\n", "=5\r\ntxt:a\r\n"),
    ];
    for (value, v2, v3) in table {
        for (version, expected) in [(Version::V2, v2), (Version::V3, v3)] {
            let mut bytes = BytesMut::new();
            value.write(version, &mut bytes);
            assert_eq!(bytes.escape_ascii().to_string(), expected.escape_default().to_string());
        }
    }
}
