//! Write modes, session tokens and the fate of writes, over real processes and the Redis protocol.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::common::env::{Rng, SplitMix64};
use common::{PATIENCE, three_nodes, until};
use server::client::{Client, Reply};
use server::cluster::Cluster;

async fn say(client: &mut Client, line: &str) -> Reply {
    client.line(line).await.unwrap_or_else(|error| panic!("{line}: {error}"))
}

async fn text(client: &mut Client, line: &str) -> String {
    match say(client, line).await {
        Reply::Value(bytes) => String::from_utf8(bytes).unwrap(),
        other => panic!("{line}: {other:?}"),
    }
}

/// A field of REPL LAST.
async fn last(client: &mut Client, name: &str) -> Reply {
    let Reply::Several(fields) = say(client, "REPL LAST").await else { panic!("no fields") };
    let mut pairs = fields.chunks_exact(2);
    let named = |pair: &&[Reply]| pair[0].value() == Some(name.as_bytes());
    pairs.find(named).unwrap_or_else(|| panic!("no {name} in {fields:?}"))[1].clone()
}

async fn connect(cluster: &Cluster, id: u64) -> Client {
    cluster.connect(id, PATIENCE).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_async_write_that_a_failover_took_away_is_told_lost_by_every_node() {
    let mut cluster = three_nodes().await;
    let leader = cluster.leader().await.unwrap();
    let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let mut client = connect(&cluster, leader).await;
    assert!(say(&mut client, "SET kept 1").await.is_ok());
    assert!(say(&mut client, "REPL ACK async").await.is_ok());
    // From here on the leader is alone, and has its lease for a moment.
    for id in &others {
        cluster.kill(*id).unwrap();
    }
    assert!(say(&mut client, "SET lost 1").await.is_ok());
    assert_eq!(last(&mut client, "committed").await, Reply::Number(0));
    let Reply::Value(receipt) = last(&mut client, "receipt").await else { panic!("none") };
    let receipt = String::from_utf8(receipt).unwrap();
    assert!(say(&mut client, "REPL READ eventual").await.is_ok());
    assert_eq!(say(&mut client, "GET lost").await.to_string(), "(nil)", "nothing uncommitted");
    cluster.kill(leader).unwrap();

    for id in &others {
        cluster.start(*id).unwrap();
    }
    for id in &others {
        cluster.ready(*id, PATIENCE).await.unwrap();
    }
    cluster.start(leader).unwrap();
    cluster.ready(leader, PATIENCE).await.unwrap();
    for id in cluster.ids() {
        let mut client = connect(&cluster, id).await;
        let fate = text(&mut client, &format!("REPL RESOLVE {receipt}")).await;
        assert!(fate.starts_with("lost"), "node {id} says {fate}");
        assert_eq!(text(&mut client, "GET kept").await, "1");
        assert_eq!(say(&mut client, "GET lost").await.to_string(), "(nil)");
    }
    let http = cluster.status(leader).await.unwrap().addresses.http;
    the_lost_write_is_kept_and_written_again(&http, &receipt).await;
    let mut client = connect(&cluster, others[0]).await;
    assert_eq!(text(&mut client, "GET lost").await, "1");
}

/// What `tercet rollbacks` shows of the node that held the write, and does with it.
async fn the_lost_write_is_kept_and_written_again(http: &str, receipt: &str) {
    let run = async |arguments: &[&str]| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_tercet"));
        let program = program.arg("rollbacks").args(arguments).args(["--address", http]);
        let output = program.output().unwrap();
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {problem}");
        String::from_utf8(output.stdout).unwrap()
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let listed = loop {
        let listed = run(&[]).await;
        if !listed.starts_with("no rollback files") {
            break listed;
        }
        assert!(tokio::time::Instant::now() < deadline, "{listed}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let file = listed.lines().nth(1).and_then(|line| line.split_whitespace().next()).unwrap();
    let shown = run(&["show", file]).await;
    assert!(shown.contains(receipt) && shown.contains("lost"), "{shown}");
    let replayed = run(&["replay", file]).await;
    assert!(replayed.starts_with("0 written again; 1 left"), "it is absent: {replayed}");
    let replayed = run(&["replay", file, "--absent-keys"]).await;
    assert!(replayed.starts_with("1 written again"), "{replayed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_applied_is_seen_everywhere_and_a_token_makes_reads_causal() {
    let cluster = three_nodes().await;
    let mut clients = Vec::new();
    for id in cluster.ids() {
        clients.push(connect(&cluster, id).await);
    }
    for client in &mut clients {
        assert!(say(client, "REPL READ eventual").await.is_ok());
        assert!(say(client, "REPL ACK all APPLIED").await.is_ok());
    }
    for round in 0..20 {
        assert!(say(&mut clients[round % 3], &format!("SET everywhere {round}")).await.is_ok());
        for client in &mut clients {
            assert_eq!(text(client, "GET everywhere").await, round.to_string());
        }
    }
    for client in &mut clients {
        assert!(say(client, "REPL READ causal").await.is_ok());
        assert!(say(client, "REPL ACK async").await.is_ok());
    }
    for round in 0..50 {
        let (writer, reader) = (round % 3, (round + 1) % 3);
        assert!(say(&mut clients[writer], &format!("SET handed {round}")).await.is_ok());
        let token = text(&mut clients[writer], "REPL TOKEN").await;
        text(&mut clients[reader], &format!("REPL TOKEN {token}")).await;
        assert_eq!(text(&mut clients[reader], "GET handed").await, round.to_string());
    }
    let table = text(&mut clients[0], "REPL EXPLAIN").await;
    assert!(table.contains("write async, read causal") && table.contains("may lose"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_asks_for_a_member_that_is_away_says_what_it_has_achieved() {
    let mut cluster = three_nodes().await;
    let leader = cluster.leader().await.unwrap();
    let away = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.kill(away).unwrap();
    let mut client = connect(&cluster, leader).await;
    assert!(say(&mut client, "REPL ACK all").await.is_ok());
    let refused = say(&mut client, "SET key 1").await.to_string();
    assert!(refused.contains("ACKTIMEOUT") && refused.contains("is committed"), "{refused}");
    assert_eq!(last(&mut client, "committed").await, Reply::Number(1));
    let Reply::Several(durable) = last(&mut client, "durable").await else { panic!("none") };
    assert!(
        !durable.contains(&Reply::Number(away.cast_signed())) && durable.len() == 2,
        "{durable:?}"
    );
    assert_eq!(text(&mut client, "GET key").await, "1");
    let wrong = say(&mut client, "REPL ACK semi 3").await.to_string();
    assert!(wrong.contains("2 voters besides the leader"), "{wrong}");
    cluster.start(away).unwrap();
    until("all have it", async || say(&mut client, "SET key 2").await.is_ok()).await;
}

/// Clients move money between accounts, each transfer after a look at both; the leader is killed in
/// the middle. A transfer takes place as a whole or not at all, so the sum never changes.
#[tokio::test(flavor = "multi_thread")]
async fn transfers_by_watch_and_exec_keep_the_sum_while_the_leader_is_killed() {
    const ACCOUNTS: u64 = 6;
    let mut cluster = three_nodes().await;
    let mut first = connect(&cluster, 1).await;
    for account in 0..ACCOUNTS {
        assert!(say(&mut first, &format!("SET account:{account} 100")).await.is_ok());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let addresses: Vec<String> =
        cluster.ids().into_iter().map(|id| cluster.resp(id).to_owned()).collect();
    let clients: Vec<_> = (0..6_u64)
        .map(|number| {
            let (addresses, stop) = (addresses.clone(), stop.clone());
            tokio::spawn(async move { transfer(&addresses, number, &stop, ACCOUNTS).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let leader = cluster.leader().await.unwrap();
    cluster.kill(leader).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::SeqCst);
    let (mut done, mut retried) = (0, 0);
    for client in clients {
        let (transfers, conflicts) = client.await.unwrap();
        done += transfers;
        retried += conflicts;
    }
    assert!(done > 20 && retried > 0, "{done} transfers, {retried} conflicts");
    let other = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let mut client = connect(&cluster, other).await;
    assert_eq!(sum(&mut client, ACCOUNTS).await, Some(i64::try_from(ACCOUNTS).unwrap() * 100));
}

/// What all accounts hold together, in one cut.
async fn sum(client: &mut Client, accounts: u64) -> Option<i64> {
    let keys: Vec<String> = (0..accounts).map(|account| format!("account:{account}")).collect();
    let Reply::Several(values) = client.line(&format!("MGET {}", keys.join(" "))).await.ok()?
    else {
        return None;
    };
    let number = |value: &Reply| std::str::from_utf8(value.value()?).ok()?.parse::<i64>().ok();
    values.iter().map(number).sum()
}

/// One client: how many transfers took place, and how many met a conflict.
async fn transfer(
    addresses: &[String],
    number: u64,
    stop: &AtomicBool,
    accounts: u64,
) -> (u64, u64) {
    let rng = SplitMix64::new(number);
    let (mut done, mut conflicts, mut place) = (0, 0, number as usize);
    while !stop.load(Ordering::SeqCst) {
        place += 1;
        let address = &addresses[place % addresses.len()];
        let Ok(mut client) = Client::connect(address, Duration::from_secs(2)).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !stop.load(Ordering::SeqCst) {
            let from = rng.below(accounts);
            let to = (from + 1 + rng.below(accounts - 1)) % accounts;
            match once(&mut client, from, to).await {
                Some(true) => done += 1,
                Some(false) => conflicts += 1,
                None => break,
            }
            if let Some(sum) = sum(&mut client, accounts).await {
                assert_eq!(sum, i64::try_from(accounts).unwrap() * 100);
            }
        }
    }
    (done, conflicts)
}

/// One transfer: whether it took place, or nothing where that is not known.
async fn once(client: &mut Client, from: u64, to: u64) -> Option<bool> {
    let (from, to) = (format!("account:{from}"), format!("account:{to}"));
    if !client.line(&format!("WATCH {from} {to}")).await.ok()?.is_ok() {
        return None;
    }
    let mut held = Vec::new();
    for account in [&from, &to] {
        let reply = client.line(&format!("GET {account}")).await.ok()?;
        held.push(std::str::from_utf8(reply.value()?).ok()?.parse::<i64>().ok()?);
    }
    let (less, more) = (held[0] - 1, held[1] + 1);
    client.line("MULTI").await.ok()?;
    client.line(&format!("SET {from} {less}")).await.ok()?;
    client.line(&format!("SET {to} {more}")).await.ok()?;
    match client.line("EXEC").await.ok()? {
        Reply::Several(_) => Some(true),
        Reply::Nothing => Some(false),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn growth_over_a_quota_is_refused_with_redis_words_and_deletes_pass() {
    let cluster = three_nodes().await;
    let mut client = connect(&cluster, 2).await;
    assert!(say(&mut client, "REPL QUOTA SET hard-keys 3 soft-keys 2").await.is_ok());
    for key in 0..3 {
        assert!(say(&mut client, &format!("SET key:{key} 1")).await.is_ok());
    }
    let refused = say(&mut client, "SET key:3 1").await;
    let said = refused.error().unwrap();
    assert!(said.starts_with("OOM command not allowed when used memory > 'maxmemory'"), "{said}");
    assert!(said.contains("not applied") && said.contains("3 of 3 keys"), "{said}");
    for line in ["SET key:0 other", "EXPIRE key:0 100", "DEL key:1", "SET key:3 1"] {
        let reply = say(&mut client, line).await;
        assert!(reply.error().is_none(), "{line}: {reply:?}");
    }
    // INFO tells of the node that is asked, which applies a moment later than the leader.
    let told = async {
        loop {
            let info = text(&mut client, "INFO memory").await;
            if info.contains("tercet_state_keys:3") && info.contains("tercet_quota:full") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    let status = cluster.status(1).await.unwrap();
    assert_eq!(status.state.quota.hard_keys, Some(3));
    assert!(say(&mut client, "REPL QUOTA SET hard-keys none").await.is_ok());
    assert!(say(&mut client, "SET key:4 1").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_two_connections_see_one_snapshot_until_its_end() {
    let cluster = three_nodes().await;
    let (mut one, mut two) = (connect(&cluster, 2).await, connect(&cluster, 2).await);
    let mut writer = connect(&cluster, 1).await;
    for n in 0..100 {
        assert!(say(&mut writer, &format!("SET key:{n} old")).await.is_ok());
    }
    let token = text(&mut one, "REPL SNAPSHOT BEGIN").await;
    for n in 50..150 {
        assert!(say(&mut writer, &format!("SET key:{n} new")).await.is_ok());
    }
    assert_eq!(text(&mut two, &format!("REPL SNAPSHOT BEGIN {token}")).await, token);
    for client in [&mut one, &mut two] {
        assert_eq!(text(client, "GET key:70").await, "old");
        assert_eq!(say(client, "GET key:120").await.to_string(), "(nil)");
        assert_eq!(say(client, "DBSIZE").await, Reply::Number(100));
        assert_eq!(text(client, "REPL SNAPSHOT").await, token);
    }
    assert!(say(&mut one, "REPL SNAPSHOT END").await.is_ok());
    assert_eq!(text(&mut one, "GET key:70").await, "new");
    assert_eq!(text(&mut two, "GET key:70").await, "old", "the other one keeps it");
    drop(two);
    let mut three = connect(&cluster, 3).await;
    let refused = say(&mut three, &format!("REPL SNAPSHOT BEGIN {token}")).await;
    assert!(refused.error().unwrap().starts_with("SNAPSHOTTOOLD"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pop_waits_on_one_node_for_a_push_through_another_and_through_a_failover() {
    let mut cluster = three_nodes().await;
    let leader = cluster.leader().await.unwrap();
    let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let mut waits = connect(&cluster, others[0]).await;
    let mut pushes = connect(&cluster, others[1]).await;
    let popped = tokio::spawn(async move {
        let first = say(&mut waits, "BLPOP queue 60").await;
        (first, say(&mut waits, "BLPOP queue 60").await)
    });
    until("a client waits", async || {
        let mut client = connect(&cluster, others[0]).await;
        text(&mut client, "INFO clients").await.contains("blocked_clients:1")
    })
    .await;
    assert_eq!(say(&mut pushes, "RPUSH queue first").await, Reply::Number(1));
    cluster.kill(leader).unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while say(&mut pushes, "RPUSH queue second").await.error().is_some() {
        assert!(tokio::time::Instant::now() < deadline);
    }
    let (first, second) = popped.await.unwrap();
    let expected = |value: &str| {
        Reply::Several(vec![Reply::Value(b"queue".to_vec()), Reply::Value(value.into())])
    };
    assert_eq!((first, second), (expected("first"), expected("second")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_says_who_has_answered_it_and_how_old_it_may_be() {
    let cluster = three_nodes().await;
    let follower = {
        let leader = cluster.leader().await.unwrap();
        cluster.ids().into_iter().find(|id| *id != leader).unwrap()
    };
    let mut client = connect(&cluster, follower).await;
    assert!(say(&mut client, "SET key value").await.is_ok());
    assert!(say(&mut client, "REPL READ bounded 5000 PREFER nearest").await.is_ok());
    assert_eq!(text(&mut client, "REPL READ").await, "bounded 5000 PREFER nearest");
    for _ in 0..3 {
        say(&mut client, "GET key").await;
        let Reply::Several(fields) = say(&mut client, "REPL LAST READ").await else {
            panic!("no fields")
        };
        assert_eq!(fields[3].value(), Some(b"bounded 5000".as_slice()), "{fields:?}");
        let Reply::Number(age) = &fields[5] else { panic!("no age in {fields:?}") };
        assert!(*age <= 5_000, "{fields:?}");
    }
}
