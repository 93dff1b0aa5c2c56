//! Serves the Redis protocol over the machine in this process: no replication, nothing on disk.
//!
//! It shows what the protocol alone costs, next to `redis-benchmark` against a cluster:
//!
//! ```text
//! cargo run --release -p tercet --example in_memory -- 127.0.0.1:6399
//! redis-benchmark -p 6399 -t ping,set,get,incr,mset -P 16 -q
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use common::ids::NodeId;
use server::backend::Local;
use server::listener::{Identity, Limits, Service, serve};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:6399".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let address = listener.local_addr()?.to_string();
    println!("serving on {address} until Ctrl-C; nothing is kept");
    let identity = Identity {
        cluster: "in-memory".into(),
        node: NodeId(1),
        addresses: BTreeMap::from([(NodeId(1), address)]),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    let service = Service::new(Arc::new(Local::new()), identity, Limits::default());
    let shutdown = async {
        // Without a way to be told it serves until it is ended otherwise.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    serve(listener, service, shutdown).await;
    Ok(())
}
