//! Passwords and roles.

use std::collections::BTreeMap;
use std::sync::Arc;

use server::backend::Local;
use server::listener::Limits;
use server::resp::Value;
use server::users::{PasswordDigest, Role, Users};

use crate::support::{Client, Server, encode};

fn start() -> Server {
    let user = |name: &str, password: &str, role| {
        (name.to_owned(), (PasswordDigest::of(password.as_bytes()), role))
    };
    let users = BTreeMap::from([
        user("default", "plain", Role::Write),
        user("root", "toor", Role::Admin),
        user("reader", "read", Role::Read),
    ]);
    Server::start_for(Arc::new(Local::new()), Limits::default(), Users::new(users))
}

fn error(client: &mut Client, line: &str) -> String {
    match client.say(line) {
        Value::Error(text) => String::from_utf8_lossy(&text).into_owned(),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn nobody_does_anything_before_a_password_is_shown() {
    let server = start();
    let mut client = server.connect();
    for line in
        ["GET a", "SET a 1", "PING", "INFO", "CONFIG GET *", "MULTI", "REPL STATUS", "COMMAND"]
    {
        assert_eq!(error(&mut client, line), "NOAUTH Authentication required.", "{line}");
    }
    assert!(error(&mut client, "HELLO 3").starts_with("NOAUTH HELLO must be called"));
    assert!(error(&mut client, "NONSENSE").starts_with("ERR unknown command"));
    assert!(error(&mut client, "AUTH wrong").starts_with("WRONGPASS invalid"));
    assert!(error(&mut client, "AUTH reader wrong").starts_with("WRONGPASS invalid"));
    assert!(error(&mut client, "AUTH nobody plain").starts_with("WRONGPASS invalid"));
    assert_eq!(client.say("AUTH plain"), Value::OK);
    assert_eq!(client.say("SET a 1"), Value::OK);
    // A wrong password changes nothing for somebody who is known.
    assert!(error(&mut client, "AUTH wrong").starts_with("WRONGPASS"));
    assert_eq!(client.say("GET a"), Value::bulk("1"));
    client.say("RESET");
    assert_eq!(error(&mut client, "GET a"), "NOAUTH Authentication required.");
}

#[test]
fn hello_takes_user_and_password_and_then_speaks_version_three() {
    let server = start();
    let mut client = server.connect();
    assert!(error(&mut client, "HELLO 3 AUTH default wrong").starts_with("WRONGPASS"));
    let Value::Map(_) = client.say("HELLO 3 AUTH default plain") else { panic!("no map") };
    assert_eq!(client.say("SET a 1"), Value::OK);
}

#[test]
fn a_role_may_do_what_it_is_for() {
    let server = start();
    let denied = "NOPERM this user has no permissions to run the '";
    for (auth, reads, writes, admin) in [
        ("AUTH root toor", true, true, true),
        ("AUTH plain", true, true, false),
        ("AUTH reader read", true, false, false),
    ] {
        let mut client = server.connect();
        assert_eq!(client.say(auth), Value::OK);
        for (line, may) in [
            ("GET a", reads),
            ("KEYS *", reads),
            ("SET a 1", writes),
            ("FLUSHALL", writes),
            ("CLIENT LIST", admin),
            ("CONFIG SET save x", admin),
        ] {
            let reply = client.say(line);
            let refused =
                matches!(&reply, Value::Error(text) if text.starts_with(denied.as_bytes()));
            assert_eq!(refused, !may, "{auth}: {line}: {reply:?}");
        }
        assert_eq!(client.say("PING"), Value::bulk("PONG"));
    }
    let mut client = server.connect();
    client.say("AUTH reader read");
    client.say("MULTI");
    assert!(error(&mut client, "SET a 1").starts_with(denied));
    assert!(error(&mut client, "EXEC").starts_with("EXECABORT"));
}

#[test]
fn whoever_guesses_waits_alone() {
    let server = start();
    let (mut guesser, mut other) = (server.connect(), server.connect());
    other.say("AUTH plain");
    let guesses: Vec<u8> = (0..4).flat_map(|n| encode(&["AUTH", &n.to_string()])).collect();
    guesser.send(&guesses);
    for _ in 0..100 {
        assert_eq!(other.say("SET a 1"), Value::OK);
    }
    for _ in 0..4 {
        assert!(guesser.value().is_error());
    }
}

#[test]
fn a_stranger_gets_little_memory() {
    let server = start();
    let mut client = server.connect();
    client.send(&encode(&["AUTH", &"x".repeat(100_000)]));
    let refused = client.value();
    assert!(matches!(&refused, Value::Error(text) if text.starts_with(b"ERR a request of")));
    assert_eq!(client.say("AUTH plain"), Value::OK);
    client.send(&encode(&["SET", "a", &"x".repeat(100_000)]));
    assert_eq!(client.value(), Value::OK);
}
