//! Bad input gets a clear answer, and nobody else notices.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use leader::error::{ReadError, WriteError};
use server::backend::Local;
use server::listener::Limits;
use server::redis::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use server::resp::Value;

use crate::slow::Slow;
use crate::support::{Client, PATIENCE, Server, encode, words};

/// A server with a connection that works while others misbehave.
struct Scene {
    server: Server,
    witness: Client,
    count: i64,
}

impl Scene {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let server = Server::start_with(Arc::new(Local::new()), limits);
        let witness = server.connect();
        Self { server, witness, count: 0 }
    }

    /// The other connection notices nothing.
    fn check(&mut self) {
        self.count += 1;
        assert_eq!(self.witness.say("INCR witness"), Value::Integer(self.count));
        assert_eq!(self.witness.say("GET witness"), Value::bulk(self.count.to_string()));
    }

    /// What a stream of bytes is answered until the server closes.
    fn until_closed(&mut self, bytes: &[u8]) -> String {
        let mut client = self.server.connect();
        client.send(&encode(&["SET", "before", "1"]));
        assert_eq!(client.value(), Value::OK);
        client.try_send(bytes);
        self.check();
        let answer = client.rest();
        self.check();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

macro_rules! closes_with {
    ($($name:ident: $bytes:expr => $answer:expr;)*) => {$(
        #[test]
        fn $name() {
            let mut scene = Scene::new();
            assert_eq!(scene.until_closed($bytes), $answer);
            let errors = &scene.server.service.counters().protocol_errors;
            assert_eq!(errors.load(Ordering::Relaxed), 1);
        }
    )*};
}

closes_with! {
    a_count_that_is_no_number_closes: b"*x\r\n" => "-ERR Protocol error: invalid multibulk length\r\n";
    a_count_that_is_too_large_closes: b"*2147483648\r\n" => "-ERR Protocol error: invalid multibulk length\r\n";
    a_length_that_is_no_number_closes: b"*1\r\n$x\r\n" => "-ERR Protocol error: invalid bulk length\r\n";
    a_length_that_is_negative_closes: b"*1\r\n$-5\r\n" => "-ERR Protocol error: invalid bulk length\r\n";
    a_length_that_is_too_large_closes: b"*1\r\n$536870913\r\n" => "-ERR Protocol error: invalid bulk length\r\n";
    an_argument_without_a_length_closes: b"*1\r\nPING\r\n" => "-ERR Protocol error: expected '$', got 'P'\r\n";
    an_open_quote_closes: b"GET \"a\r\n" => "-ERR Protocol error: unbalanced quotes in request\r\n";
    an_endless_line_closes: &b"a".repeat(70_000) => "-ERR Protocol error: too big inline request\r\n";
    an_endless_count_closes: &[b"*".as_slice(), &b"1".repeat(70_000)].concat() =>
        "-ERR Protocol error: too big mbulk count string\r\n";
    an_endless_length_closes: &[b"*1\r\n$".as_slice(), &b"1".repeat(70_000)].concat() =>
        "-ERR Protocol error: too big bulk count string\r\n";
}

#[test]
fn what_was_sent_before_a_malformed_request_is_answered() {
    let mut scene = Scene::new();
    let stream = [encode(&["SET", "a", "1"]), encode(&["GET", "a"]), b"*x\r\n".to_vec()].concat();
    let expected = "+OK\r\n$1\r\n1\r\n-ERR Protocol error: invalid multibulk length\r\n";
    assert_eq!(scene.until_closed(&stream), expected);
}

#[test]
fn a_web_browser_is_cut_off_without_a_word() {
    let mut scene = Scene::new();
    for request in ["POST / HTTP/1.1\r\nSET a 1\r\n", "Host: a\r\nSET a 1\r\n"] {
        assert_eq!(scene.until_closed(request.as_bytes()), "");
    }
    assert_eq!(scene.witness.say("EXISTS a"), Value::Integer(0));
}

#[test]
fn a_request_over_the_limit_is_answered_and_the_next_is_served() {
    let mut limits = Limits::default();
    limits.request_bytes = 10_000;
    let mut scene = Scene::with(limits);
    let mut client = scene.server.connect();
    for request in [
        encode(&["SET", "k", &"x".repeat(20_000)]),
        encode(&vec!["DEL"; 1_000]),
        encode(&["APPEND", &"k".repeat(9_000), &"v".repeat(9_000)]),
    ] {
        client.send(&request);
        let Value::Error(text) = client.value() else { panic!("it was taken") };
        let text = String::from_utf8_lossy(&text);
        assert!(text.starts_with("ERR a request of ") && text.contains("limit of 10000"), "{text}");
        assert_eq!(client.say("PING"), Value::bulk("PONG"));
        scene.check();
    }
    assert_eq!(client.say("EXISTS k"), Value::Integer(0));
}

#[test]
fn a_large_claim_takes_no_memory_and_disturbs_nobody() {
    let mut scene = Scene::new();
    let mut claims = Vec::new();
    for _ in 0..50 {
        let mut client = scene.server.connect();
        client.send(b"*2147483647\r\n$536870912\r\nabc");
        claims.push(client);
    }
    scene.check();
}

#[test]
fn unknown_commands_and_wrong_numbers_of_arguments_are_named() {
    let mut scene = Scene::new();
    let mut client = scene.server.connect();
    for (line, expected) in [
        ("NONSENSE a b", "ERR unknown command 'NONSENSE', with args beginning with: 'a' 'b' "),
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("GET a b", "ERR wrong number of arguments for 'get' command"),
        ("CLIENT NONSENSE", "ERR unknown subcommand 'NONSENSE'. Try CLIENT HELP."),
        ("CLIENT ID x", "ERR wrong number of arguments for 'client|id' command"),
        ("SET a 1 NONSENSE", "ERR syntax error"),
        ("INCRBY a x", "ERR value is not an integer or out of range"),
        ("EXEC", "ERR EXEC without MULTI"),
    ] {
        assert_eq!(client.say(line), Value::error(expected), "{line}");
        scene.check();
    }
}

/// Every command with nothing, too little, too much and nonsense as its arguments.
#[test]
fn no_arguments_whatever_break_a_connection() {
    let mut scene = Scene::new();
    let mut client = scene.server.connect();
    client.send(&encode(&["COMMAND", "LIST", "FILTERBY", "PATTERN", "*"]));
    let Value::Array(names) = client.value() else { panic!("no list") };
    let nonsense =
        ["", "x", "-1", "0", "9223372036854775807", "\0\r\n\u{ff}", "EX", "MATCH", "*", "SKIPME"];
    for name in names {
        let Value::Bulk(name) = name else { panic!("no name") };
        let name = String::from_utf8(name.to_vec()).expect("a name");
        if ["quit", "client|reply", "client|kill", "wait"].contains(&name.as_str()) {
            continue;
        }
        for (number, word) in nonsense.iter().enumerate() {
            for count in 0..6 {
                let mut words: Vec<&str> = name.split('|').collect();
                words.extend(
                    (0..count).map(|n| if n == 2 { nonsense[(number + 3) % 10] } else { word }),
                );
                client.send(&encode(&words));
                client.reply();
            }
        }
        client.send(&encode(&["RESET"]));
        assert_eq!(client.value(), Value::bulk("RESET"), "{name}");
    }
    scene.witness.say("FLUSHALL");
    scene.count = 0;
    scene.check();
}

#[test]
fn keys_and_values_that_are_too_long_are_refused_by_name() {
    let mut limits = Limits::default();
    limits.request_bytes = 64 << 20;
    let mut scene = Scene::with(limits);
    let mut client = scene.server.connect();
    let key = "k".repeat(MAX_KEY_BYTES + 1);
    for words in [vec!["SET", &key, "v"], vec!["RENAME", "a", &key], vec!["INCR", &key]] {
        client.send(&encode(&words));
        let expected = "ERR a key of 64001 bytes is over the limit of 64000; shorten it";
        assert_eq!(client.value(), Value::error(expected));
    }
    for words in [vec!["GET", &key], vec!["GETRANGE", &key, "0", "1"], vec!["TTL", &key]] {
        client.send(&encode(&words));
        assert!(!client.value().is_error(), "{words:?}: such a key is merely absent");
    }
    client.send(&encode(&["SET", "a", &"v".repeat(MAX_VALUE_BYTES + 1)]));
    assert!(matches!(client.value(), Value::Error(text) if text.starts_with(b"ERR a value of ")));
    client.send(&encode(&["SET", "a", &"v".repeat(MAX_VALUE_BYTES)]));
    assert_eq!(client.value(), Value::OK);
    scene.check();
}

#[test]
fn clients_beyond_the_limit_are_told_so() {
    let mut limits = Limits::default();
    limits.connections = 3;
    let mut scene = Scene::with(limits);
    scene.check();
    let mut others = [scene.server.connect(), scene.server.connect()];
    for other in &mut others {
        assert_eq!(other.say("PING"), Value::bulk("PONG"));
    }
    let refused = scene.server.connect().rest();
    assert_eq!(refused, b"-ERR max number of clients reached\r\n");
    scene.check();
    drop(others);
    let begin = Instant::now();
    while scene.server.service.counters().open.load(Ordering::Relaxed) > 1 {
        assert!(begin.elapsed() < PATIENCE, "the closed ones are still counted");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(scene.server.connect().say("PING"), Value::bulk("PONG"));
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let mut scene = Scene::new();
    for number in 0..50 {
        let mut client = scene.server.connect();
        let whole = encode(&["SET", "vanished", "1"]);
        client.send(&whole[..number % whole.len()]);
        drop(client);
    }
    scene.check();
    let begin = Instant::now();
    while scene.server.service.counters().open.load(Ordering::Relaxed) > 1 {
        assert!(begin.elapsed() < PATIENCE, "connections that are gone are counted as open");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(scene.witness.say("CLIENT LIST ID 2"), Value::bulk(""), "they are not listed");
}

/// Failures of replication have a word that says whether the write may have taken place.
#[test]
fn failures_of_replication_say_what_happened_to_the_data() {
    let backend = Slow::new(Duration::ZERO);
    let server = Server::start_with(backend.clone(), Limits::default());
    let mut client = server.connect();
    let second = Duration::from_secs(1);
    let refused = WriteError::Refused("too much".into());
    for (write, read, write_word, read_word) in [
        (WriteError::NoLeader(second), ReadError::NoLeader(second), "CLUSTERDOWN", "CLUSTERDOWN"),
        (WriteError::Unknown { at: None }, ReadError::Behind(second), "UNKNOWN", "TRYAGAIN"),
        (WriteError::DiskFull, ReadError::Unsupported("no".into()), "MISCONF", "ERR"),
        (WriteError::SessionExpired, ReadError::Behind(second), "TRYAGAIN", "TRYAGAIN"),
        (refused, ReadError::Behind(second), "ERR", "TRYAGAIN"),
        (
            WriteError::Overloaded { retry_after: second },
            ReadError::Stopping(common::ids::NodeId(1)),
            "TRYAGAIN",
            "CLUSTERDOWN",
        ),
    ] {
        *backend.failure.lock().expect("no panic") = Some((write, read));
        let mut word = |line: &str| {
            client.send(&encode(&words(line)));
            let Value::Error(text) = client.value() else { panic!("{line} succeeded") };
            String::from_utf8_lossy(&text).split(' ').next().unwrap_or_default().to_owned()
        };
        assert_eq!(word("SET a 1"), write_word);
        assert_eq!(word("GET a"), read_word);
        assert_eq!(word("KEYS *"), read_word);
        assert_eq!(client.say("PING"), Value::bulk("PONG"), "the connection stays");
    }
}
