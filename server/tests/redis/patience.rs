//! Clients that are waited for in vain are let go, and nobody else notices.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use server::backend::Local;
use server::listener::Limits;
use server::resp::Value;

use crate::slow::Slow;
use crate::support::{PATIENCE, Server, encode};

#[test]
fn a_silent_client_is_let_go_after_the_idle_timeout() {
    let mut limits = Limits::default();
    limits.idle = Some(Duration::from_secs(1));
    let server = Server::start_with(Arc::new(Local::new()), limits);
    let (silent, mut busy) = (server.connect(), server.connect());
    let mut partial = server.connect();
    partial.send(b"*2\r\n$3\r\nGET\r\n");
    let begun = Instant::now();
    while server.service.counters().timed_out.load(Relaxed) < 2 {
        // Each of its requests begins its time anew.
        assert_eq!(busy.say("PING"), Value::bulk("PONG"));
        assert!(begun.elapsed() < PATIENCE, "the other two are not let go");
    }
    assert!(silent.rest().is_empty() && partial.rest().is_empty(), "both are closed");
}

#[test]
fn a_client_that_waits_for_us_is_not_idle() {
    let mut limits = Limits::default();
    limits.idle = Some(Duration::from_millis(700));
    let server = Server::start_with(Slow::new(Duration::from_millis(1500)), limits);
    let mut client = server.connect();
    assert_eq!(client.say("SET a 1"), Value::OK);
    assert!(client.rest().is_empty(), "but then it is, and closed");
}

#[test]
fn a_client_that_takes_no_replies_is_let_go_and_others_notice_nothing() {
    let mut limits = Limits::default();
    limits.unsent_bytes = 1 << 20;
    limits.stall = Duration::from_millis(300);
    let server = Server::start_with(Arc::new(Local::new()), limits);
    let (mut lazy, mut busy) = (server.connect(), server.connect());
    busy.send(&encode(&["SET", "large", &"x".repeat(1 << 20)]));
    assert_eq!(busy.value(), Value::OK);
    lazy.send(&encode(&["GET", "large"]).repeat(200));
    server.until("it is let go", |counters| counters.timed_out.load(Relaxed) == 1);
    server.until("and no longer open", |counters| counters.open.load(Relaxed) == 1);
    assert_eq!(busy.say("PING"), Value::bulk("PONG"));
}
