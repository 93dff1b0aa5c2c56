//! Pops that wait: as Redis answers them, in the order of arrival, and ended by whoever may.

use std::time::Duration;

use server::resp::Value;

use crate::differential::servers;
use crate::support::{Client, Server, encode, words};

fn send(client: &mut Client, line: &str) {
    client.send(&encode(&words(line)));
}

/// Waits until so many clients of the server are blocked.
fn blocked(client: &mut Client, count: usize) {
    let wanted = format!("blocked_clients:{count}\r\n");
    for _ in 0..2_000 {
        client.send(&encode(&["INFO", "clients"]));
        let text = String::from_utf8_lossy(&client.reply()).into_owned();
        if text.contains(&wanted) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never {count} blocked clients");
}

#[test]
fn pops_that_wait_are_answered_as_by_redis() {
    let Some((real, ours)) = servers() else { return };
    let mut answers = Vec::new();
    let clients: [&dyn Fn() -> Client; 2] = [&|| ours.connect(), &|| real.connect()];
    for connect in clients {
        let (mut waits, mut writes, mut replies) = (connect(), connect(), Vec::new());
        writes.say("FLUSHALL");
        for version in ["2", "3"] {
            waits.say(&format!("HELLO {version}"));
            // At once, by the time, and by what comes.
            for (before, line, push) in [
                ("RPUSH a 1 2", "BLPOP none a 0", ""),
                ("", "BRPOP none a 0", ""),
                ("", "BLPOP none a 0.02", ""),
                ("", "BLMOVE a b LEFT RIGHT 0.02", ""),
                ("", "BRPOPLPUSH a b 0.02", ""),
                ("", "BLMPOP 0.02 2 a b LEFT", ""),
                ("", "BZPOPMIN z 0.02", ""),
                ("", "BLPOP a b 0", "RPUSH b x y"),
                ("", "BRPOP a b 0", ""),
                ("", "BLMOVE a b LEFT RIGHT 0", "LPUSH a moved"),
                ("", "BRPOPLPUSH b a 0", ""),
                ("DEL a b", "BLMPOP 0 2 a b RIGHT COUNT 2", "RPUSH b 1 2 3"),
                ("ZADD z 1 m 2.5 n 3 o", "BZPOPMIN y z 0", ""),
                ("", "BZPOPMAX y z 0", ""),
                ("", "BZMPOP 0 2 y z MIN COUNT 5", ""),
                ("", "BZMPOP 0 1 z MAX", "ZADD z 7 late"),
                ("SET s 1", "BLPOP s 0", ""),
                ("", "BZPOPMIN s 0", ""),
                ("", "BLPOP a -1", ""),
                ("", "BLPOP a x", ""),
                ("", "BLMPOP 0 0 a LEFT", ""),
                ("", "BLMPOP 0 2 a LEFT", ""),
                ("", "BLMPOP 0 1 a UP", ""),
                ("", "BLMPOP 0 1 a LEFT COUNT 0", ""),
                ("RPUSH a 1 2 3", "LMPOP 2 none a LEFT COUNT 2", ""),
                ("", "LMPOP 1 none RIGHT", ""),
                ("ZADD q 1 m", "ZMPOP 1 q MAX", ""),
                ("", "ZMPOP 1 q MAX", ""),
                ("", "MULTI", ""),
                ("", "BLPOP a 0", ""),
                ("", "BLPOP a 0", ""),
                ("", "BLMOVE a b LEFT RIGHT 0", ""),
                ("", "EXEC", ""),
                ("FLUSHALL", "CLIENT UNBLOCK 99999", ""),
            ] {
                if !before.is_empty() {
                    writes.say(before);
                }
                send(&mut waits, line);
                if !push.is_empty() {
                    blocked(&mut writes, 1);
                    writes.say(push);
                }
                replies.push((line, String::from_utf8_lossy(&waits.reply()).into_owned()));
            }
        }
        answers.push(replies);
    }
    let real = answers.pop().unwrap();
    let differ = answers[0].iter().zip(&real).filter(|(ours, real)| ours != real);
    let differ: Vec<_> = differ.collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn who_waits_first_is_served_first() {
    let server = Server::start();
    let (mut writer, mut waiting) = (server.connect(), Vec::new());
    for n in 1..=5 {
        let mut client = server.connect();
        send(&mut client, "BLPOP queue 0");
        blocked(&mut writer, n);
        waiting.push(client);
    }
    writer.say("RPUSH queue 1 2 3");
    blocked(&mut writer, 2);
    writer.say("RPUSH queue 4 5");
    for (client, value) in waiting.iter_mut().zip(1..) {
        let expected = vec![Value::bulk("queue"), Value::bulk(value.to_string())];
        assert_eq!(client.value(), Value::Array(expected));
    }
    blocked(&mut writer, 0);
    assert_eq!(writer.say("LLEN queue"), Value::Integer(0));
}

#[test]
fn a_wait_is_ended_by_others_and_by_the_end_of_its_connection() {
    let server = Server::start();
    let (mut other, mut client) = (server.connect(), server.connect());
    let Value::Integer(id) = client.say("CLIENT ID") else { panic!("no id") };
    send(&mut client, "BLPOP queue 0");
    blocked(&mut other, 1);
    assert_eq!(other.say(&format!("CLIENT UNBLOCK {id}")), Value::Integer(1));
    assert_eq!(client.value(), Value::NullArray);
    send(&mut client, "BLPOP queue 0");
    blocked(&mut other, 1);
    assert_eq!(other.say(&format!("CLIENT UNBLOCK {id} ERROR")), Value::Integer(1));
    assert!(client.value().is_error());
    assert_eq!(other.say(&format!("CLIENT UNBLOCK {id}")), Value::Integer(0));
    send(&mut client, "BLPOP queue 0");
    blocked(&mut other, 1);
    assert_eq!(other.say(&format!("CLIENT KILL ID {id}")), Value::Integer(1));
    blocked(&mut other, 0);
    let mut client = server.connect();
    send(&mut client, "BLPOP queue 0");
    blocked(&mut other, 1);
    drop(client);
    blocked(&mut other, 0);
    other.say("RPUSH queue kept");
    assert_eq!(other.say("LLEN queue"), Value::Integer(1), "nobody was there to take it");
}
