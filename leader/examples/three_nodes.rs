//! Three nodes in one process, over real TCP on loopback and real logs in a temporary folder.
//!
//! ```text
//! cargo run -p tercet-leader --example three_nodes
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::env::{Env, Parts, SplitMix64, SystemClock, TokioSpawn};
use common::ids::{Incarnation, NodeId};
use common::storage::disk::OsDisk;
use common::storage::engine::{FjallConfig, FjallEngines};
use common::transport::tcp::{TcpConfig, TcpParts, TcpTransport};
use leader::key_value::{Command, KeyValue};
use leader::{Config, Member, Node, ReadOptions, WriteOptions};

type Error = Box<dyn std::error::Error>;

/// Opens a node on the folder `root/<id>`, and says where it listens.
async fn open(root: &Path, id: NodeId) -> Result<(Node<KeyValue>, Member), Error> {
    let folder = root.join(id.to_string());
    let listen = TcpConfig::new("127.0.0.1:0", id, "example");
    let transport = TcpTransport::bind(TcpParts::system(), listen).await?;
    let member = Member { id, address: transport.address().to_owned() };
    let env = Env::new(Parts {
        node: id,
        incarnation: Incarnation(1),
        clock: Arc::new(SystemClock::default()),
        rng: Arc::new(SplitMix64::from_system()),
        spawn: Arc::new(TokioSpawn),
        transport,
        disk: Arc::new(OsDisk::open(&folder).await?),
    });
    let engines = Arc::new(FjallEngines::new(folder.join("engine"), FjallConfig::default()));
    let node = Node::open(env, engines, KeyValue, Config::new(id, "example")).await?;
    Ok((node, member))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let root = tempfile::tempdir()?;
    let mut nodes = Vec::new();
    let mut members = Vec::new();
    for id in 1..=3 {
        let (node, member) = open(root.path(), NodeId(id)).await?;
        nodes.push(node);
        members.push(member);
    }

    // One node makes the three a cluster; the others learn it from their leader.
    nodes[0].bootstrap(members).await?;
    let patience = Duration::from_secs(10);
    let status =
        nodes[0].wait_until(patience, |s| s.leader.is_some()).await.map_err(|_| "no leader")?;
    println!("node {} leads term {}", status.leader.unwrap_or(NodeId(0)), status.term);

    // Any node takes writes. The answer means: durable on a majority, and applied.
    let written =
        nodes[2].write(Command::put("greeting", "hello"), WriteOptions::default()).await?;
    println!("written through node 3 at {:?}", written.at);

    // Any node answers strong reads.
    for node in &nodes {
        let view = node.view(ReadOptions::default()).await?;
        let record = KeyValue::get(&view, view.clock(), b"greeting")?.ok_or("missing")?;
        println!("node {} reads {:?}", node.id(), String::from_utf8_lossy(&record.value));
    }

    // The leader hands over before it stops, so nobody waits for an election.
    for node in &nodes {
        node.shutdown().await;
    }
    Ok(())
}
