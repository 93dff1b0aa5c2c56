//! TLS between nodes over the loopback interface: the transport's contract, and who is kept out.
#![expect(clippy::disallowed_methods, reason = "real sockets, files and time")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;
use crate::transport::conformance::{self, Limits, Network};
use crate::transport::tcp::{
    LinkLimits, Sockets, SystemSockets, TcpConfig, TcpParts, TcpTransport,
};
use crate::transport::{CallError, Class, Handler, Transport};

const LONG: Duration = Duration::from_secs(20);
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

/// An authority in memory.
struct Office {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Office {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn credentials(&self, name: &str) -> Credentials {
        let (certificate, key) = self.issue(name);
        Credentials::from_pem(&certificate, &key, "test").unwrap()
    }

    fn authority(&self) -> Authority {
        Authority::from_pem(&self.certificate, "test").unwrap()
    }

    fn sockets(&self, node: NodeId) -> TlsSockets {
        let own = self.credentials(&node_name(node));
        TlsSockets::new(Arc::new(SystemSockets), node, &own, &self.authority()).unwrap()
    }
}

#[derive(Debug, Default)]
struct Echo(AtomicUsize);

impl Handler for Echo {
    fn handle(
        &self,
        _: NodeId,
        _: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok(body) })
    }
}

/// A transport that serves, and a count of what it served.
struct Node {
    transport: Arc<TcpTransport>,
    echo: Arc<Echo>,
}

impl Node {
    async fn start(node: NodeId, sockets: impl Sockets + 'static) -> Self {
        let parts = TcpParts { sockets: Arc::new(sockets), ..TcpParts::system() };
        let config = TcpConfig::new("127.0.0.1:0", node, "test");
        let transport = TcpTransport::bind(parts, config).await.unwrap();
        let echo = Arc::new(Echo::default());
        transport.serve(echo.clone());
        Self { transport, echo }
    }

    /// Calls `node` at the address of `other`.
    async fn call(&self, node: NodeId, other: &Self) -> Result<Bytes, CallError> {
        self.transport.learn(node, other.transport.address());
        self.transport.call(node, Class::Data, Bytes::from_static(b"hello"), LONG).await
    }

    /// Why `node` cannot be reached at the address of `other`, which serves nothing.
    async fn why(&self, node: NodeId, other: &Self) -> String {
        let answer = self.call(node, other).await;
        assert_eq!(other.echo.0.load(Ordering::SeqCst), 0, "it was served");
        match answer {
            Err(CallError::Unreachable(_, why)) => why,
            other => panic!("not unreachable: {other:?}"),
        }
    }
}

#[derive(Debug)]
struct Loopback {
    office: Arc<Mutex<Office>>,
    limits: Limits,
    addresses: Mutex<BTreeMap<NodeId, String>>,
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Office")
    }
}

#[async_trait]
impl Network for Loopback {
    async fn bind(&self, node: NodeId) -> Arc<dyn Transport> {
        let sockets = Arc::new(self.office.lock().unwrap().sockets(node));
        let parts = TcpParts { sockets, ..TcpParts::system() };
        let limits = LinkLimits {
            frame: self.limits.frame,
            queue_calls: self.limits.calls,
            ..LinkLimits::default()
        };
        let config = TcpConfig { limits, ..TcpConfig::new("127.0.0.1:0", node, "test") };
        let transport = TcpTransport::bind(parts, config).await.unwrap();
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
async fn the_transport_under_tls_conforms() {
    let office = Arc::new(Mutex::new(Office::new()));
    let new = |limits| -> Box<dyn Network> {
        Box::new(Loopback { office: office.clone(), limits, addresses: Mutex::default() })
    };
    Box::pin(conformance::all(&new)).await;
}

#[tokio::test]
async fn nodes_of_one_authority_talk_both_ways() {
    let office = Office::new();
    let a = Node::start(A, office.sockets(A)).await;
    let b = Node::start(B, office.sockets(B)).await;
    assert_eq!(a.call(B, &b).await.unwrap(), "hello");
    assert_eq!(b.call(A, &a).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_node_without_tls_is_refused_and_told_why() {
    let office = Office::new();
    let plain = Node::start(A, SystemSockets).await;
    let b = Node::start(B, office.sockets(B)).await;
    let why = plain.why(B, &b).await;
    assert!(why.contains("which is TLS: this node is configured without it"), "{why}");
    let why = b.why(A, &plain).await;
    assert!(why.contains("it may not speak TLS"), "{why}");
}

#[tokio::test]
async fn a_node_of_another_authority_is_kept_out_in_both_directions() {
    let (ours, theirs) = (Office::new(), Office::new());
    let a = Node::start(A, ours.sockets(A)).await;
    let stranger = Node::start(B, theirs.sockets(B)).await;
    let why = a.why(B, &stranger).await;
    assert!(why.contains("from an authority that is not trusted here"), "{why}");
    let _ = stranger.why(A, &a).await;
}

/// Trusts us, so that only the other end's judgement keeps it out.
#[tokio::test]
async fn a_certificate_of_another_authority_does_not_open_a_port() {
    let (ours, theirs) = (Office::new(), Office::new());
    let a = Node::start(A, ours.sockets(A)).await;
    let own = theirs.credentials(&node_name(B));
    let sockets = TlsSockets::new(Arc::new(SystemSockets), B, &own, &ours.authority()).unwrap();
    let stranger = Node::start(B, sockets).await;
    let why = stranger.why(A, &a).await;
    assert!(why.contains("it does not trust the authority") || why.contains("reset"), "{why}");
}

#[tokio::test]
async fn a_certificate_speaks_for_the_node_that_it_names_and_for_no_other() {
    let office = Office::new();
    let a = Node::start(A, office.sockets(A)).await;
    // Node 3's certificate and key, in the hands of one who says that he is node 2.
    let thief = Node::start(B, office.sockets(C)).await;
    let why = thief.why(A, &a).await;
    assert!(why.contains("says that it is node 2") && why.contains("node-2.tercet"), "{why}");
    let why = a.why(B, &thief).await;
    assert!(why.contains("its certificate is refused"), "{why}");
}

#[tokio::test]
async fn a_certificate_without_a_nodes_name_is_no_nodes() {
    let office = Office::new();
    let client = office.credentials("client.tercet");
    let made = TlsSockets::new(Arc::new(SystemSockets), A, &client, &office.authority());
    let why = made.unwrap_err().to_string();
    assert!(why.contains("\"node-1.tercet\"") && why.contains("tercet certificates"), "{why}");
}

#[tokio::test]
async fn newcomers_that_say_nothing_hold_up_nobody() {
    let office = Office::new();
    let a = Node::start(A, office.sockets(A)).await;
    let b = Node::start(B, office.sockets(B)).await;
    let connect = || std::net::TcpStream::connect(b.transport.address()).unwrap();
    let silent: Vec<_> = (0..8).map(|_| connect()).collect();
    assert_eq!(a.call(B, &b).await.unwrap(), "hello");
    drop(silent);
}

#[test]
fn files_that_cannot_be_used_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let office = Office::new();
    let ((one, key), (_, other)) = (office.issue("a"), office.issue("b"));
    for (name, text) in [("one.pem", &one), ("one.key", &key), ("other.key", &other)] {
        std::fs::write(path(name), text).unwrap();
    }
    let load = |certificate: &str, key: &str| {
        let loaded = Credentials::load(&path(certificate), &path(key));
        loaded.and_then(|own| server(&own, None).map(drop)).map_err(|error| error.to_string())
    };
    assert_eq!(load("one.pem", "one.key"), Ok(()));
    for (certificate, key, parts) in [
        ("none.pem", "one.key", ["none.pem", "No such file"]),
        ("one.key", "one.key", ["one.key", "BEGIN CERTIFICATE"]),
        ("one.pem", "one.pem", ["one.pem", "BEGIN PRIVATE KEY"]),
        ("one.pem", "other.key", ["one.pem", "key belongs to another certificate"]),
    ] {
        let error = load(certificate, key).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}
