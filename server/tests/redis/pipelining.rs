//! Many requests at once are answered in their order, soon, and within bounds.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::env::{Rng, SplitMix64};
use server::listener::Limits;
use server::resp::Value;

use crate::slow::Slow;
use crate::support::{PATIENCE, Server, encode, words};

const DELAY: Duration = Duration::from_millis(2);

/// A random command on few keys: writes, small and large reads, and what needs no key.
fn command(random: &SplitMix64) -> String {
    let key = ["a", "b", "c"][random.below(3) as usize];
    match random.below(14) {
        0..=2 => format!("SET {key} {}", random.below(100)),
        3 => format!("INCR {key}"),
        4 => format!("DEL {key}"),
        5..=7 => format!("GET {key}"),
        8 => "MGET a b c".into(),
        9 => "MGET a b c a b c a b c a b c a b c a b c".into(),
        10 => format!("PING {}", random.below(100)),
        11 => "DBSIZE".into(),
        12 => "SCAN 0 COUNT 100".into(),
        _ => format!("STRLEN {key}"),
    }
}

/// Against a backend where order shows: a pipeline is answered as the same commands one by one.
#[test]
fn a_pipeline_is_answered_as_its_commands_one_by_one() {
    for seed in 0..12 {
        let (slow, quick) =
            (Server::start_with(Slow::new(DELAY), Limits::default()), Server::start());
        let (mut pipelined, mut one_by_one) = (slow.connect(), quick.connect());
        let random = SplitMix64::new(seed);
        let lines: Vec<String> = (0..120).map(|_| command(&random)).collect();
        let bytes: Vec<u8> = lines.iter().flat_map(|line| encode(&words(line))).collect();
        // In pieces that end anywhere.
        for piece in bytes.chunks(1 + random.below(400) as usize) {
            pipelined.send(piece);
        }
        for (number, line) in lines.iter().enumerate() {
            let (found, expected) = (pipelined.value(), one_by_one.say(line));
            assert_eq!(
                found,
                expected,
                "seed {seed}, {number}: {line}; before: {:?}",
                &lines[..number]
            );
        }
    }
}

#[test]
fn writes_of_a_pipeline_do_not_wait_for_each_other() {
    let backend = Slow::new(Duration::from_millis(50));
    let server = Server::start_with(backend.clone(), Limits::default());
    let mut client = server.connect();
    let begin = Instant::now();
    let bytes: Vec<u8> = (0..200).flat_map(|_| encode(&["INCR", "n"])).collect();
    client.send(&bytes);
    for expected in 1..=200 {
        assert_eq!(client.value(), Value::Integer(expected));
    }
    assert!(backend.most_waiting.load(Ordering::Relaxed) > 100, "they were under way together");
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?} for 200 rounds of 50 ms",
        begin.elapsed()
    );
}

#[test]
fn reads_of_a_pipeline_share_one_cut() {
    let backend = Slow::new(DELAY);
    let server = Server::start_with(backend.clone(), Limits::default());
    let mut client = server.connect();
    client.say("SET a 1");
    let bytes: Vec<u8> = (0..100)
        .flat_map(|n| encode(if n % 10 == 9 { &["PING", "1"] } else { &["GET", "a"] }))
        .collect();
    client.send(&bytes);
    for _ in 0..100 {
        assert_eq!(client.value(), Value::bulk("1"));
    }
    let views = backend.views.load(Ordering::Relaxed);
    assert!(views <= 3, "{views} cuts for one pipeline");
}

#[test]
fn a_small_read_goes_with_the_writes_before_it() {
    let backend = Slow::new(DELAY);
    let server = Server::start_with(backend.clone(), Limits::default());
    let mut client = server.connect();
    let turns = 100;
    let bytes: Vec<u8> = (0..turns)
        .flat_map(|n| [encode(&["SET", "a", &n.to_string()]), encode(&["GET", "a"])].concat())
        .collect();
    client.send(&bytes);
    for turn in 0..turns {
        assert_eq!(client.value(), Value::OK);
        assert_eq!(client.value(), Value::bulk(turn.to_string()));
    }
    assert_eq!(backend.views.load(Ordering::Relaxed), 0, "none took a round of its own");
}

/// A client may send everything before it reads anything.
#[test]
fn a_long_pipeline_is_taken_before_its_replies_are_read() {
    let server = Server::start();
    let mut client = server.connect();
    let value = "v".repeat(100);
    let count = 40_000;
    let bytes: Vec<u8> = (0..count)
        .flat_map(|_| [encode(&["SET", "a", &value]), encode(&["GET", "a"])].concat())
        .collect();
    client.send(&bytes);
    for _ in 0..count {
        assert_eq!(client.value(), Value::OK);
        assert_eq!(client.value(), Value::bulk(value.clone()));
    }
}

/// A client that reads nothing is served no further than its bound, others all the while.
#[test]
fn a_client_that_does_not_read_waits_alone() {
    let mut limits = Limits::default();
    limits.unsent_bytes = 1 << 20;
    let server = Server::start_with(std::sync::Arc::new(server::backend::Local::new()), limits);
    let (mut lazy, mut busy) = (server.connect(), server.connect());
    busy.send(&encode(&["SET", "large", &"x".repeat(1 << 20)]));
    assert_eq!(busy.value(), Value::OK);
    let count = 200;
    let bytes: Vec<u8> = (0..count).flat_map(|_| encode(&["GET", "large"])).collect();
    lazy.send(&bytes);
    let answered = || server.service.counters().commands.load(Ordering::Relaxed);
    // Until it stands still, and it does before all is answered.
    let begin = Instant::now();
    let mut last = (answered(), Instant::now());
    while last.1.elapsed() < Duration::from_millis(300) {
        assert!(begin.elapsed() < PATIENCE, "it never stands still");
        assert_eq!(busy.say("PING"), Value::bulk("PONG"));
        std::thread::sleep(Duration::from_millis(5));
        let lazy_answers = server.service.counters().hits.load(Ordering::Relaxed);
        if lazy_answers != last.0 {
            last = (lazy_answers, Instant::now());
        }
    }
    assert!(last.0 < count, "{} replies of 1 MiB are held for a client that reads none", last.0);
    for _ in 0..count {
        assert!(matches!(lazy.value(), Value::Bulk(value) if value.len() == 1 << 20));
    }
}

#[test]
fn requests_in_flight_are_bounded() {
    let mut limits = Limits::default();
    limits.pipeline = 16;
    let backend = Slow::new(DELAY);
    let server = Server::start_with(backend.clone(), limits);
    let mut client = server.connect();
    let bytes: Vec<u8> = (0..500).flat_map(|_| encode(&["INCR", "n"])).collect();
    client.send(&bytes);
    for expected in 1..=500 {
        assert_eq!(client.value(), Value::Integer(expected));
    }
    let most = backend.most_waiting.load(Ordering::Relaxed);
    assert!((2..=16).contains(&most), "{most} at a time");
}

#[test]
fn what_is_in_flight_is_answered_when_the_server_stops() {
    let backend = Slow::new(Duration::from_millis(100));
    let mut server = Server::start_with(backend.clone(), Limits::default());
    let (mut client, idle) = (server.connect(), server.connect());
    client.send(&[encode(&["SET", "a", "1"]), encode(&["INCR", "a"])].concat());
    let begin = Instant::now();
    while backend.waiting.load(Ordering::Relaxed) < 2 {
        assert!(begin.elapsed() < PATIENCE, "the writes are not under way");
        std::thread::sleep(Duration::from_millis(1));
    }
    server.begin_stop();
    assert_eq!(client.value(), Value::OK);
    assert_eq!(client.value(), Value::Integer(2));
    assert!(client.rest().is_empty() && idle.rest().is_empty(), "then both are closed");
    server.join();
    assert!(begin.elapsed() < Duration::from_secs(4), "idle connections are not waited for");
    assert_eq!(server.service.counters().open.load(Ordering::Relaxed), 0);
}

#[test]
fn a_client_that_sends_no_more_is_answered_to_the_end() {
    let server = Server::start_with(Slow::new(Duration::from_millis(20)), Limits::default());
    let mut client = server.connect();
    let bytes = ["SET a 1", "GET a", "KEYS *", "INCR a"].map(|line| encode(&words(line))).concat();
    client.send(&bytes);
    assert_eq!(client.finish(), b"+OK\r\n$1\r\n1\r\n*1\r\n$1\r\na\r\n:2\r\n");
}
