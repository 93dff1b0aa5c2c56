//! Three nodes in one process, over real TCP on loopback and real logs in a temporary folder.
//!
//! ```text
//! cargo run -p tercet-leaderless --example three_nodes
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::env::{Env, Parts, SplitMix64, SystemClock, TokioSpawn};
use common::ids::{ClusterId, Incarnation, KeyspaceId, NodeId, Region};
use common::seal::ClusterSecret;
use common::storage::disk::OsDisk;
use common::storage::engine::{FjallConfig, FjallEngines};
use common::transport::tcp::{TcpConfig, TcpParts, TcpTransport};
use leaderless::layout::{Bits, Layout, NewNode, Rack};
use leaderless::{Config, Key, KeyspaceConfig, Kind, Node, ReadOptions, Siblings, WriteOptions};

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let root = tempfile::tempdir()?;
    let region = Region("here".into());

    // Where each node listens decides the first layout.
    let mut transports = Vec::new();
    let mut members = Vec::new();
    for id in 1..=3 {
        let listen = TcpConfig::new("127.0.0.1:0", NodeId(id), "example");
        let transport = TcpTransport::bind(TcpParts::system(), listen).await?;
        let (address, rack) = (transport.address().to_owned(), Rack(format!("rack {id}")));
        members.push(NewNode { address, region: region.clone(), rack, capacity: 1 });
        transports.push((NodeId(id), transport));
    }
    let factors = BTreeMap::from([(region, 3)]);
    let (layout, _) = Layout::first(Bits::new(6)?, 4711, members, factors)?;
    let secret = ClusterSecret::from_system()?;
    let keyspace = KeyspaceConfig { name: "carts".into(), id: KeyspaceId(1), kind: Kind::Siblings };

    let mut nodes = Vec::new();
    for (id, transport) in transports {
        let folder = root.path().join(id.to_string());
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
        let keyspaces = vec![keyspace.clone()];
        let config = Config::new(id, ClusterId(1), secret.clone(), layout.clone(), keyspaces);
        nodes.push(Node::open(env, engines, config).await?);
    }
    // New folders serve once every peer has said that it never heard of them.
    while !nodes.iter().all(|node| node.status().synced) {
        tokio::task::yield_now().await;
    }

    // Two clients write the same key without knowing of each other: both values are kept.
    let key = Key::plain("cart of ada");
    let carts: Vec<_> = nodes.iter().filter_map(|n| n.keyspace::<Siblings>("carts")).collect();
    for (cart, item) in carts.iter().zip(["tea", "milk"]) {
        let written = cart.put(&key, Bytes::from(item), WriteOptions::default()).await?;
        println!("{item} is durable on {:?}", written.achieved);
    }
    let read = carts[2].get(&key, ReadOptions::default()).await?;
    let items: Vec<_> = read.values.iter().map(|s| String::from_utf8_lossy(&s.value)).collect();
    println!("node 3 reads {items:?}");

    // A write that shows what was read replaces it.
    let both = Bytes::from(items.join(" and "));
    let written = carts[2].put(&key, both, WriteOptions::default().after(read.context)).await?;
    let read = carts[0].get(&key, ReadOptions::default()).await?;
    println!("node 1 reads {:?}", read.values.iter().map(|s| &s.value).collect::<Vec<_>>());
    let fate = nodes[1].resolve(&written.receipt.into(), Duration::from_secs(5)).await?;
    println!("that write is {fate}");

    for node in &nodes {
        node.shutdown().await;
    }
    Ok(())
}
