//! TCP on the loopback interface: the contract, strangers, damage and load.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "real sockets and time")]

mod damage;
mod faulty;
mod introductions;
mod load;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use super::{LinkLimits, TcpConfig, TcpParts, TcpTransport};
use crate::ids::NodeId;
use crate::transport::conformance::{self, Limits, Network};
use crate::transport::{CallError, Class, Handler, Transport};

/// Longer than anything takes that works, also on a busy machine.
const LONG: Duration = Duration::from_secs(20);

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

/// Answers with what it got, and counts.
#[derive(Debug, Default)]
struct Echo(AtomicUsize);

impl Echo {
    fn served(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Handler for Echo {
    fn handle(
        &self,
        _from: NodeId,
        _class: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok(body) })
    }
}

fn config(node: NodeId) -> TcpConfig {
    TcpConfig::new("127.0.0.1:0", node, "test")
}

async fn bind(config: TcpConfig) -> Arc<TcpTransport> {
    TcpTransport::bind(TcpParts::system(), config).await.unwrap()
}

async fn bind_with(config: TcpConfig, sockets: &Arc<faulty::FaultySockets>) -> Arc<TcpTransport> {
    let parts = TcpParts { sockets: sockets.clone(), ..TcpParts::system() };
    TcpTransport::bind(parts, config).await.unwrap()
}

async fn call(from: &TcpTransport, to: NodeId, body: &'static str) -> Result<Bytes, CallError> {
    from.call(to, Class::Data, Bytes::from_static(body.as_bytes()), LONG).await
}

/// Waits until something holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, waited).await.is_ok(), "it never came to this: {what}");
}

#[derive(Debug)]
struct Loopback {
    limits: Limits,
    addresses: Mutex<BTreeMap<NodeId, String>>,
}

#[async_trait]
impl Network for Loopback {
    async fn bind(&self, node: NodeId) -> Arc<dyn Transport> {
        let limits = LinkLimits {
            frame: self.limits.frame,
            queue_calls: self.limits.calls,
            ..LinkLimits::default()
        };
        let transport = bind(TcpConfig { limits, ..config(node) }).await;
        self.addresses.lock().unwrap().insert(node, transport.address().to_owned());
        transport
    }

    fn address(&self, node: NodeId) -> String {
        let nobody = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().to_string()
        };
        self.addresses.lock().unwrap().get(&node).cloned().unwrap_or_else(nobody)
    }

    fn sleep(&self, d: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(d))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_conforms() {
    let new =
        |limits| -> Box<dyn Network> { Box::new(Loopback { limits, addresses: Mutex::default() }) };
    Box::pin(conformance::all(&new)).await;
}
