//! MULTI, EXEC and WATCH beyond what one connection to Redis shows.

use std::time::Duration;

use server::listener::Limits;
use server::resp::Value;

use crate::slow::Slow;
use crate::support::{Client, Server, encode};

fn text(value: &Value) -> String {
    match value {
        Value::Error(bytes) | Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("no text: {other:?}"),
    }
}

fn start() -> Server {
    Server::start_with(Slow::new(Duration::from_millis(5)), Limits::default())
}

fn all(words: &[&[&str]]) -> Vec<u8> {
    words.iter().map(|words| encode(words)).collect::<Vec<_>>().concat()
}

fn values(client: &mut Client, count: usize) -> Vec<Value> {
    (0..count).map(|_| client.value()).collect()
}

#[test]
fn a_pipelined_transaction_is_answered_in_order_and_sees_what_was_sent_before() {
    let server = start();
    let mut client = server.connect();
    client.send(&all(&[
        &["SET", "a", "1"],
        &["MULTI"],
        &["INCR", "a"],
        &["GET", "a"],
        &["EXEC"],
        &["GET", "a"],
    ]));
    let queued = || Value::bulk("QUEUED");
    let done = Value::Array(vec![Value::Integer(2), Value::bulk("2")]);
    let expected = [Value::OK, Value::OK, queued(), queued(), done, Value::bulk("2")];
    assert_eq!(values(&mut client, 6), expected);
}

#[test]
fn a_watched_key_that_another_has_changed_undoes_the_transaction() {
    let server = start();
    let (mut client, mut other) = (server.connect(), server.connect());
    for (changed, value) in [(true, Value::NullArray), (false, Value::Array(vec![Value::OK]))] {
        client.say("SET key 1");
        assert_eq!(client.say("WATCH key absent"), Value::OK);
        assert_eq!(client.say("MULTI"), Value::OK);
        assert_eq!(client.say("SET key 2"), Value::bulk("QUEUED"));
        if changed {
            other.say("SET key 3");
        }
        assert_eq!(client.say("EXEC"), value);
        assert_eq!(client.say("GET key"), Value::bulk(if changed { "3" } else { "2" }));
    }
    // A key that came to be, and one that was set to what it was before.
    for (line, watched) in [("SET absent 1", "absent"), ("SET key 2", "key")] {
        client.say(&format!("WATCH {watched}"));
        other.say(line);
        client.say("MULTI");
        client.say("PING");
        assert_eq!(client.say("EXEC"), Value::NullArray, "{line}");
    }
}

#[test]
fn a_pipelined_watch_is_taken_before_the_transaction_behind_it() {
    let server = start();
    let (mut client, mut other) = (server.connect(), server.connect());
    for round in 0..50 {
        client.send(&all(&[&["WATCH", "counter"], &["MULTI"], &["INCR", "counter"], &["EXEC"]]));
        if round % 2 == 0 {
            other.say("INCR counter");
        }
        values(&mut client, 3);
        assert!(matches!(client.value(), Value::Array(_) | Value::NullArray));
    }
}

#[test]
fn a_connection_that_breaks_before_exec_leaves_nothing_behind() {
    let server = start();
    let mut client = server.connect();
    client.say("MULTI");
    client.say("SET key 1");
    drop(client);
    assert_eq!(server.connect().say("GET key"), Value::Null);
}

#[test]
fn what_cannot_be_one_step_is_refused_and_ends_the_transaction() {
    let server = start();
    let mut client = server.connect();
    for line in ["SCAN 0", "KEYS *", "RANDOMKEY", "WAIT 1 1", "HELLO 3", "CLIENT ID", "REPL LAST"] {
        client.say("MULTI");
        client.say("SET key 1");
        let refused = text(&client.say(line));
        assert!(refused.contains("not supported between MULTI and EXEC"), "{line}: {refused}");
        assert!(text(&client.say("EXEC")).starts_with("EXECABORT"), "{line}");
    }
    assert_eq!(client.say("GET key"), Value::Null);
}

#[test]
fn a_transaction_is_bounded_in_commands_and_bytes() {
    let server = start();
    let mut client = server.connect();
    client.say("MULTI");
    let many = all(&[&["SET", "a", "b"]]).repeat(5_000);
    client.send(&many);
    let refused = values(&mut client, 5_000).iter().filter(|value| value.is_error()).count();
    assert_eq!(refused, 5_000 - 4_096);
    assert!(text(&client.say("EXEC")).starts_with("EXECABORT"));
    let mut limits = Limits::default();
    limits.request_bytes = 4_096;
    let server = Server::start_with(Slow::new(Duration::ZERO), limits);
    let mut client = server.connect();
    client.say("MULTI");
    for _ in 0..2 {
        client.send(&encode(&["SET", "a", &"b".repeat(2_000)]));
        assert_eq!(client.value(), Value::bulk("QUEUED"));
    }
    client.send(&encode(&["SET", "a", &"b".repeat(2_000)]));
    assert!(text(&client.value()).contains("4096 bytes"));
    assert!(text(&client.say("EXEC")).starts_with("EXECABORT"));
}
