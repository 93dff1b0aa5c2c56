//! Real records through a real client, with the leader killed in the middle: about 35,000 lines of
//! UnicodeData.txt through `redis-cli --pipe`. The script does the work, so that a person can do
//! the same with a cluster of their own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{PATIENCE, finish, has_redis_cli, missing, said, script, three_nodes, until};
use server::client::Client;

fn data() -> Option<PathBuf> {
    let named = std::env::var_os("TERCET_UNICODE_DATA").map(PathBuf::from);
    let path = named.unwrap_or_else(|| PathBuf::from("/usr/share/unicode/UnicodeData.txt"));
    path.is_file().then_some(path)
}

async fn size(address: &str) -> usize {
    let Ok(mut client) = Client::connect(address, PATIENCE).await else { return 0 };
    let size = client.line("DBSIZE").await.ok().and_then(|reply| reply.number());
    size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_survives_the_leader_killed_while_redis_cli_loads() {
    let Some(file) = data() else { return missing("UnicodeData.txt") };
    if !has_redis_cli() {
        return;
    }
    let records = std::fs::read_to_string(&file).unwrap().lines().count();
    assert!(records > 30_000, "{} has {records} records only", file.display());
    let mut cluster = three_nodes().await;
    let leader = cluster.leader().await.expect("a ready cluster has a leader");
    let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let addresses: Vec<String> =
        [leader, others[0], others[1]].map(|id| cluster.resp(id).to_owned()).to_vec();

    // The client talks to the leader, so that it feels the kill.
    let mut load = Command::new(script("unicode_data.sh"));
    load.arg("load").arg(&file).args(&addresses).stdout(Stdio::piped()).stderr(Stdio::piped());
    let loading = load.spawn().unwrap();
    let survivor = addresses[1].clone();
    until("a tenth of the records is there", async || size(&survivor).await > records / 10).await;
    cluster.kill(leader).unwrap();
    let at_kill = size(&survivor).await;
    assert!(at_kill < records, "all {records} records were there before the kill");
    println!("killed node {leader} with {at_kill} of {records} records there");
    cluster.start(leader).unwrap();

    let output = loading.wait_with_output().unwrap();
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    println!("{text}");
    assert!(text.contains("pass 2:"), "the client did not feel the kill:\n{text}");

    cluster.ready(leader, PATIENCE).await.unwrap();
    let mut check = Command::new(script("unicode_data.sh"));
    let output = finish(check.arg("check").arg(&file).args(&addresses));
    assert!(output.status.success(), "{}", said(&output));
    println!("{}", said(&output));
}
