//! What a connection can agree on, tell and ask beyond what the comparison with Redis shows.

use std::time::{Duration, Instant};

use common::ids::{LogPos, NodeId};
use leader::Role;
use server::listener::Limits;
use server::resp::Value;

use crate::slow::Slow;
use crate::support::{PATIENCE, Server, encode, words};

fn text(value: &Value) -> String {
    match value {
        Value::Bulk(bytes) | Value::Verbatim(bytes) | Value::Error(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        other => panic!("{other:?}"),
    }
}

/// The value of a key in a map, or in what version 2 has for one.
fn field(value: &Value, key: &str) -> Value {
    let found = match value {
        Value::Map(pairs) => pairs.iter().find(|(k, _)| text(k) == key).map(|(_, v)| v.clone()),
        Value::Array(items) => {
            items.chunks(2).find(|pair| text(&pair[0]) == key).map(|pair| pair[1].clone())
        }
        other => panic!("{other:?}"),
    };
    found.unwrap_or_else(|| panic!("no {key} in {value:?}"))
}

#[test]
fn hello_chooses_the_version_and_says_who_answers() {
    let server = Server::start();
    let mut client = server.connect();
    let greeting = client.say("HELLO 3 AUTH default x SETNAME me");
    assert!(matches!(greeting, Value::Map(_)));
    assert_eq!(field(&greeting, "server"), Value::bulk("redis"));
    assert_eq!(field(&greeting, "proto"), Value::Integer(3));
    assert_eq!(field(&greeting, "role"), Value::bulk("master"));
    assert_eq!(client.say("CLIENT GETNAME"), Value::bulk("me"));
    assert_eq!(client.say("GET nothing"), Value::Null);
    assert!(matches!(client.say("HELLO 9"), Value::Error(_)));
    assert!(matches!(client.say("HELLO"), Value::Map(_)), "a refused version changes nothing");
    assert!(matches!(client.say("HELLO 2"), Value::Array(_)));
    assert!(matches!(client.say("CONFIG GET save"), Value::Array(_)));
}

#[test]
fn a_version_that_is_chosen_in_a_pipeline_holds_from_there_on() {
    let server = Server::start_with(Slow::new(Duration::from_millis(5)), Limits::default());
    let mut client = server.connect();
    let lines = ["SET a 1", "GET nothing", "HELLO 3", "GET nothing", "RESET", "GET nothing"];
    client.send(&lines.map(|line| encode(&words(line))).concat());
    assert_eq!(client.reply(), b"+OK\r\n");
    assert_eq!(client.reply(), b"$-1\r\n");
    assert!(client.reply().starts_with(b"%7\r\n"));
    assert_eq!(client.reply(), b"_\r\n");
    assert_eq!(client.reply(), b"+RESET\r\n");
    assert_eq!(client.reply(), b"$-1\r\n");
}

#[test]
fn clients_are_listed_by_name_and_killed_by_number_and_address() {
    let server = Server::start();
    let (mut one, mut other, mut third) = (server.connect(), server.connect(), server.connect());
    for (client, name) in [(&mut one, "one"), (&mut other, "other"), (&mut third, "third")] {
        assert_eq!(client.say(&format!("CLIENT SETNAME {name}")), Value::OK);
    }
    assert_eq!(other.say("CLIENT SETINFO LIB-NAME tested"), Value::OK);
    assert_eq!(other.say("CLIENT SETINFO LIB-VER 1.2"), Value::OK);
    assert!(other.say("CLIENT SETINFO NONSENSE x").is_error());
    assert!(other.say("CLIENT SETINFO LIB-NAME a\nb").is_error());
    assert!(other.say("CLIENT SETNAME a\nb").is_error());
    let Value::Integer(id) = other.say("CLIENT ID") else { panic!("no number") };
    let own = text(&other.say("CLIENT INFO"));
    assert!(own.starts_with(&format!("id={id} addr=127.0.0.1:")), "{own}");
    assert!(own.contains(" name=other ") && own.contains("cmd=client|info"), "{own}");
    assert!(own.contains("lib-name=tested lib-ver=1.2"), "{own}");
    let list = text(&one.say("CLIENT LIST"));
    assert_eq!(list.lines().count(), 3, "{list}");
    let line = text(&one.say(&format!("CLIENT LIST ID {id}")));
    assert!(line.contains("name=other"), "{line}");
    assert_eq!(one.say(&format!("CLIENT KILL ID {id}")), Value::Integer(1));
    assert!(other.rest().is_empty(), "it is closed without a word");
    let third_line = text(&third.say("CLIENT INFO"));
    let address = third_line.split(' ').find_map(|part| part.strip_prefix("addr="));
    let address = address.expect("an address").to_owned();
    assert_eq!(one.say(&format!("CLIENT KILL {address}")), Value::OK);
    assert!(third.rest().is_empty());
    assert_eq!(one.say("CLIENT KILL TYPE normal"), Value::Integer(0), "not itself");
    assert_eq!(one.say("CLIENT KILL TYPE normal SKIPME no"), Value::Integer(1));
    assert!(one.rest().is_empty());
}

#[test]
fn info_has_the_sections_that_tools_read() {
    let server = Server::start();
    let mut client = server.connect();
    client.say("SET a 1");
    client.say("SET b 1 EX 100");
    client.say("GET nothing");
    let all = text(&client.say("INFO"));
    for line in [
        "redis_version:7.0.15",
        "redis_mode:standalone",
        "tercet_version:0.1.0",
        "connected_clients:1",
        "loading:0",
        "keyspace_misses:1",
        "role:master",
        "cluster_enabled:0",
        "db0:keys=2,expires=1,avg_ttl=0",
    ] {
        assert!(all.lines().any(|found| found == line), "{line} is not in {all}");
    }
    let some = text(&client.say("INFO server REPLICATION"));
    assert!(
        some.starts_with("# Server\r\n") && some.contains("\r\n\r\n# Replication\r\n"),
        "{some}"
    );
    assert!(!some.contains("# Stats"), "{some}");
    assert_eq!(text(&client.say("INFO everything")).matches("# ").count(), 8);
}

#[test]
fn settings_can_be_read_and_only_kept() {
    let server = Server::start();
    let mut client = server.connect();
    assert_eq!(field(&client.say("CONFIG GET append*"), "appendonly"), Value::bulk("yes"));
    assert_eq!(field(&client.say("CONFIG GET *"), "databases"), Value::bulk("1"));
    assert_eq!(field(&client.say("CONFIG GET maxclients"), "maxclients"), Value::bulk("10000"));
    assert_eq!(client.say("CONFIG SET maxmemory 0"), Value::OK);
    assert_eq!(client.say("CONFIG SET timeout 0"), Value::OK);
    assert!(client.say("CONFIG SET timeout 10").is_error());
    let refused = text(&client.say("CONFIG SET appendonly no"));
    assert!(refused.contains("'appendonly'") && refused.contains("fixed to 'yes'"), "{refused}");
    assert_eq!(client.say("CONFIG SET save \"\""), Value::OK);
    assert!(client.say("CONFIG REWRITE").is_error());
}

#[test]
fn help_lists_what_there_is() {
    let server = Server::start();
    let mut client = server.connect();
    for family in ["CLIENT", "COMMAND", "CONFIG", "OBJECT", "REPL"] {
        let Value::Array(lines) = client.say(&format!("{family} HELP")) else { panic!("{family}") };
        assert!(text(&lines[0]).starts_with(&format!("{family} <subcommand>")));
        assert!(lines.iter().any(|line| text(line) == "HELP"), "{lines:?}");
    }
    let docs = client.say("COMMAND DOCS get");
    assert_eq!(field(&field(&docs, "get"), "group"), Value::bulk("string"));
}

#[test]
fn repl_tells_and_changes_how_reads_are_done() {
    let backend = Slow::new(Duration::ZERO);
    let server = Server::start_with(backend.clone(), Limits::default());
    let mut client = server.connect();
    assert_eq!(client.say("REPL READ"), Value::bulk("strong"));
    for level in ["eventual", "LEASE", "causal", "strong"] {
        assert_eq!(client.say(&format!("REPL READ {level}")), Value::OK);
        assert_eq!(client.say("REPL READ"), Value::bulk(level.to_ascii_lowercase()));
    }
    let refused = text(&client.say("REPL READ newest"));
    assert!(refused.contains("'newest'") && refused.contains("causal, eventual"), "{refused}");
    let refused = text(&client.say("REPL CONFLICTS"));
    assert!(refused.contains("not supported"), "{refused}");
    let status = client.say("REPL STATUS");
    assert_eq!(field(&status, "role"), Value::bulk("leader"));
    assert_eq!(field(&status, "term"), Value::Integer(3));
    assert_eq!(field(&status, "applied"), Value::Integer(40));
    let Value::Array(members) = field(&status, "members") else { panic!("{status:?}") };
    assert_eq!(members.len(), 3);
    // An eventual read does not go with writes: it asks what is here.
    client.say("REPL READ eventual");
    client.send(&[encode(&["SET", "a", "1"]), encode(&["GET", "a"])].concat());
    assert_eq!((client.value(), client.value()), (Value::OK, Value::bulk("1")));
    assert_eq!(backend.views.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn repl_ack_takes_every_mode_and_says_which_one_is_on() {
    let server = Server::start_with(Slow::new(Duration::ZERO), Limits::default());
    let mut client = server.connect();
    assert_eq!(client.say("REPL ACK"), Value::bulk("quorum"));
    for mode in [
        "async",
        "semi 1",
        "quorum",
        "all",
        "all APPLIED",
        "first 1 2 3",
        "any 2 1 2 3 APPLIED",
        "datacenter north=1 south=2",
    ] {
        assert_eq!(client.say(&format!("REPL ACK {mode}")), Value::OK, "{mode}");
        assert_eq!(client.say("REPL ACK"), Value::bulk(mode));
        assert!(text(&client.say("REPL EXPLAIN")).contains("write "), "{mode}");
    }
    for wrong in
        ["semi", "semi x", "semi 1 2", "all of", "any 1", "first", "datacenter", "sometimes"]
    {
        let refused = text(&client.say(&format!("REPL ACK {wrong}")));
        assert!(refused.contains("REPL ACK takes one of"), "{wrong}: {refused}");
    }
    let refused = text(&client.say("REPL ACK semi 3"));
    assert!(refused.contains("there are 2 voters"), "{refused}");
    assert_eq!(client.say("REPL ACK"), Value::bulk("datacenter north=1 south=2"), "it stays");
    client.say("RESET");
    assert_eq!(client.say("REPL ACK"), Value::bulk("quorum"));
}

#[test]
fn repl_last_token_and_resolve_come_after_the_writes_before_them() {
    let server = Server::start_with(Slow::new(Duration::from_millis(20)), Limits::default());
    let mut client = server.connect();
    assert_eq!(client.say("REPL LAST"), Value::Null);
    client.send(&[encode(&["SET", "a", "1"]), encode(&["REPL", "LAST"])].concat());
    assert_eq!(client.value(), Value::OK);
    let Value::Array(last) = client.value() else { panic!("no array") };
    assert_eq!((text(&last[0]), &last[3]), ("receipt".to_owned(), &Value::Integer(1)));
    let receipt = text(&last[1]);
    assert_eq!(client.say(&format!("REPL RESOLVE {receipt}")), Value::bulk("committed"));
    let token = text(&client.say("REPL TOKEN"));
    assert_eq!(client.say(&format!("REPL TOKEN {token}")), Value::bulk(token.clone()));
    let mut other = server.connect();
    assert_ne!(other.say("REPL TOKEN"), Value::bulk(token.clone()));
    assert_eq!(other.say(&format!("REPL TOKEN {token}")), Value::bulk(token.clone()), "handed on");

    let forged = format!("{}{}", &receipt[..receipt.len() - 2], "zz");
    for (wrong, why) in
        [(forged.as_str(), "receipt"), (token.as_str(), "not a receipt"), ("", "receipt")]
    {
        let mut words = vec!["REPL", "RESOLVE"];
        words.push(wrong);
        client.send(&encode(&words));
        let refused = text(&client.value());
        assert!(refused.starts_with("ERR") && refused.contains(why), "{wrong}: {refused}");
    }
    client.send(&encode(&["REPL", "TOKEN", &receipt]));
    assert!(text(&client.value()).contains("the session is as it was"));
}

#[test]
fn role_and_wait_tell_what_the_leader_knows() {
    let backend = Slow::new(Duration::ZERO);
    let server = Server::start_with(backend.clone(), Limits::default());
    let mut client = server.connect();
    let at = |index| Some(LogPos { term: 1, index });
    let matched = |second, third| {
        let mut standing = backend.standing.lock().expect("no panic");
        let all = [(NodeId(1), at(9)), (NodeId(2), second), (NodeId(3), third)];
        standing.matched = all.into_iter().collect();
    };
    matched(at(9), None);
    let Value::Array(role) = client.say("ROLE") else { panic!("no array") };
    assert_eq!(role[..2], [Value::bulk("master"), Value::Integer(40)]);
    assert!(matches!(&role[2], Value::Array(followers) if followers.len() == 2));
    let info = text(&client.say("INFO replication"));
    assert!(
        info.contains("connected_slaves:2\r\nslave0:ip=?,port=0,state=online,offset=9"),
        "{info}"
    );
    // The connection's first write is at index 1 or later: the second member has it.
    assert_eq!(client.say("SET a 1"), Value::OK);
    assert_eq!(client.say("WAIT 1 1000"), Value::Integer(1));
    let begin = Instant::now();
    assert_eq!(client.say("WAIT 2 50"), Value::Integer(1), "the third has not");
    assert!(begin.elapsed() >= Duration::from_millis(50));
    matched(at(9), at(9));
    assert_eq!(client.say("WAIT 2 0"), Value::Integer(2));
    // Behind a slow WAIT nothing overtakes.
    matched(at(9), None);
    client.send(
        &[encode(&["WAIT", "2", "60"]), encode(&["SET", "a", "2"]), encode(&["PING"])].concat(),
    );
    assert_eq!(client.value(), Value::Integer(1));
    assert_eq!((client.value(), client.value()), (Value::OK, Value::bulk("PONG")));

    backend.standing.lock().expect("no panic").role = Role::Follower;
    let Value::Array(role) = client.say("ROLE") else { panic!("no array") };
    let port = i64::from(server.address.port());
    assert_eq!(role[..3], [Value::bulk("slave"), Value::bulk("127.0.0.1"), Value::Integer(port)]);
    assert_eq!(
        client.say("WAIT 1 0"),
        Value::Integer(1),
        "a majority of three has every answered write"
    );
    let greeting = client.say("HELLO");
    assert_eq!(field(&greeting, "role"), Value::bulk("replica"));
}

/// A scan over the wire, while keys come and go, finds all that stay.
#[test]
fn scan_finds_every_key_that_stays() {
    let server = Server::start();
    let (mut client, mut other) = (server.connect(), server.connect());
    for number in 0..3_000 {
        client.say(&format!("SET stays:{number} v"));
    }
    let (mut found, mut cursor, mut steps) = (std::collections::BTreeSet::new(), "0".to_owned(), 0);
    loop {
        let reply = client.say(&format!("SCAN {cursor} COUNT 50 MATCH stays:*"));
        let Value::Array(parts) = reply else { panic!("no array") };
        let Value::Array(keys) = &parts[1] else { panic!("no keys") };
        found.extend(keys.iter().map(text));
        cursor = text(&parts[0]);
        steps += 1;
        other.say(&format!("SET passes:{steps} v"));
        other.say(&format!("DEL passes:{}", steps - 3));
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found.len(), 3_000);
    assert!((40..=80).contains(&steps), "{steps} steps of about 50 keys");
    let Value::Array(keys) = client.say("KEYS stays:*") else { panic!("no array") };
    assert_eq!(keys.len(), 3_000);
    let random = text(&client.say("RANDOMKEY"));
    assert!(random.starts_with("stays:") || random.starts_with("passes:"), "{random}");
}

#[test]
fn a_key_is_gone_when_its_time_has_come() {
    let server = Server::start();
    let mut client = server.connect();
    client.say("SET a 1 PX 40");
    assert_eq!(client.say("GET a"), Value::bulk("1"));
    let begin = Instant::now();
    while client.say("GET a") != Value::Null {
        assert!(begin.elapsed() < PATIENCE, "it never goes");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(begin.elapsed() > Duration::from_millis(25), "it went early");
    assert_eq!(client.say("TTL a"), Value::Integer(-2));
    while client.say("DBSIZE") != Value::Integer(0) {
        assert!(begin.elapsed() < PATIENCE, "it is never swept");
        std::thread::sleep(Duration::from_millis(1));
    }
}
