//! Write modes, session tokens and the fate of writes, over real processes and the Redis protocol.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

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
