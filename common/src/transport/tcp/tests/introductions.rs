//! Who may talk to a node, and how it says so.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::ids::{ClusterId, Epoch, Incarnation};
use crate::transport::handshake::{self, Greeting, Hello};

/// Why `from` cannot reach `to`.
async fn why(from: &TcpTransport, to: NodeId) -> String {
    match call(from, to, "hello").await {
        Err(CallError::Unreachable(peer, why)) if peer == to => why,
        other => panic!("not unreachable: {other:?}"),
    }
}

/// Binds both, and returns why the first cannot reach the second, under this id.
async fn refused(a: TcpConfig, b: TcpConfig, expected: NodeId) -> String {
    let (a, b) = (bind(a).await, bind(b).await);
    let echo = Arc::new(Echo::default());
    b.serve(echo.clone());
    a.learn(expected, b.address());
    let why = why(&a, expected).await;
    let status = a.links().into_iter().find(|link| link.peer == expected).unwrap();
    assert!(!status.connected && status.last_error.as_deref() == Some(&*why));
    assert_eq!(echo.served(), 0);
    a.close().await;
    b.close().await;
    why
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_by_name() {
    let named = |node, name| TcpConfig::new("127.0.0.1:0", node, name);
    let why = refused(named(A, "blue"), named(B, "red"), B).await;
    assert!(why.contains("this is node 2 of cluster 'red'"), "{why}");
    assert!(why.contains("you are of cluster 'blue'"), "{why}");

    let with_id = |node, id| TcpConfig { cluster: ClusterId(id), ..named(node, "prod") };
    let why = refused(with_id(A, 0xaa), with_id(B, 0xbb), B).await;
    assert!(why.contains("(c00000000000000bb)"), "{why}");
    assert!(why.contains("(c00000000000000aa): the same name, another cluster"), "{why}");
}

#[tokio::test]
async fn a_node_at_the_address_of_another_is_told_apart() {
    let why = refused(config(A), config(B), NodeId(7)).await;
    assert!(why.contains("this is node 2") && why.contains("you look for node 7"), "{why}");
    let why = refused(config(B), config(B), NodeId(7)).await;
    assert!(why.contains("check the addresses") || why.contains("claim to be"), "{why}");
}

#[tokio::test]
async fn a_node_that_a_recovery_left_behind_is_refused() {
    let recovered = TcpConfig { epoch: Epoch(1), ..config(B) };
    let why = refused(config(A), recovered, B).await;
    assert!(why.contains("lives in epoch 1, you live in epoch 0"), "{why}");
}

/// A copy of a node's folder started elsewhere, or a process that outlived its successor's start.
#[tokio::test]
async fn the_older_of_two_incarnations_is_refused() {
    let of = |incarnation| TcpConfig { incarnation: Incarnation(incarnation), ..config(A) };
    let (b, newer, older) = (bind(config(B)).await, bind(of(5)).await, bind(of(4)).await);
    b.serve(Arc::new(Echo::default()));
    newer.learn(B, b.address());
    older.learn(B, b.address());
    assert!(call(&older, B, "first").await.is_ok());
    assert!(call(&newer, B, "second").await.is_ok());
    // The older one's connection was closed by the newer one's arrival.
    let ended = call(&older, B, "third").await.unwrap_err();
    let why = match ended {
        CallError::Unreachable(_, why) => why,
        _ => why(&older, B).await,
    };
    assert!(why.contains("it has met incarnation 5 of node 1 and refuses the older 4"), "{why}");
    assert!(call(&newer, B, "fourth").await.is_ok());
    for node in [b, newer, older] {
        node.close().await;
    }
}

/// From the moment both know it, nobody of another cluster can slip in.
#[tokio::test]
async fn a_newcomer_learns_its_clusters_id_and_is_introduced_anew() {
    let member = TcpConfig { cluster: ClusterId(9), ..config(B) };
    let (newcomer, member) = (bind(config(A)).await, bind(member).await);
    member.serve(Arc::new(Echo::default()));
    newcomer.learn(B, member.address());
    assert_eq!((newcomer.cluster(), newcomer.offered_cluster()), (None, None));
    assert!(call(&newcomer, B, "may I?").await.is_ok());
    assert_eq!(newcomer.offered_cluster(), Some(ClusterId(9)));
    newcomer.set_cluster(ClusterId(9)).unwrap();
    newcomer.set_cluster(ClusterId(9)).unwrap();
    let refused = newcomer.set_cluster(ClusterId(8)).unwrap_err();
    assert_eq!((refused.known, refused.other), (ClusterId(9), ClusterId(8)));
    // The old connection may just be closing; the one after it stands.
    until("a call passes again", || newcomer.links()[0].connected).await;
    let mut again = call(&newcomer, B, "again").await;
    if again.is_err() {
        again = call(&newcomer, B, "again").await;
    }
    assert!(again.is_ok(), "{again:?}");
    newcomer.close().await;
    member.close().await;
}

fn hello(versions: (u16, u16)) -> Hello {
    Hello {
        versions,
        cluster: ClusterId(0),
        epoch: Epoch(0),
        node: A,
        incarnation: Incarnation(0),
        expected: B,
        class: Class::Data,
        frame_limit: 1 << 20,
        name: "test".to_owned(),
        address: "127.0.0.1:1".to_owned(),
    }
}

/// A bare connection to a node, introduced with this hello.
pub(super) async fn greet(to: &str, hello: Hello) -> (TcpStream, Greeting) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(&handshake::encode(&Greeting::Hello(hello))).await.unwrap();
    let mut header = [0; handshake::HEADER];
    stream.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; handshake::length(header).unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    (stream, handshake::decode(header, &body).unwrap())
}

/// A bare connection that is introduced as node 1.
pub(super) async fn introduced(to: &str) -> TcpStream {
    let (stream, answer) = greet(to, hello((handshake::OLDEST, handshake::NEWEST))).await;
    assert!(matches!(answer, Greeting::Welcome(_)), "{answer:?}");
    stream
}

#[tokio::test]
async fn a_node_of_another_version_is_refused_with_both_versions() {
    let b = bind(config(B)).await;
    let (mut stream, answer) = greet(b.address(), hello((8, 9))).await;
    let Greeting::Rejected(why) = answer else { panic!("{answer:?}") };
    assert!(why.contains("speaks protocol versions 1 to 1, you speak 8 to 9"), "{why}");
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "the connection is closed");
    // One that speaks newer ones too is welcome.
    let (_stream, answer) = greet(b.address(), hello((1, 9))).await;
    assert!(matches!(answer, Greeting::Welcome(_)), "{answer:?}");
    b.close().await;
}

/// Port scanners, health checks, browsers: closed, and nobody else notices.
#[tokio::test]
async fn strangers_are_shown_the_door_and_members_do_not_notice() {
    let limits = LinkLimits {
        handshake: Duration::from_millis(200),
        handshakes: 4,
        ..LinkLimits::default()
    };
    let (a, b) = (bind(config(A)).await, bind(TcpConfig { limits, ..config(B) }).await);
    b.serve(Arc::new(Echo::default()));
    a.learn(B, b.address());
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(b.address()).await.unwrap());
    }
    let mut browser = TcpStream::connect(b.address()).await.unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(call(&a, B, "hello").await.is_ok());
    silent.push(browser);
    for mut stream in silent {
        let closed = tokio::time::timeout(LONG, stream.read(&mut [0; 64])).await.unwrap();
        assert_eq!(closed.unwrap_or(0), 0, "closed without a word");
    }
    assert!(call(&a, B, "hello").await.is_ok());
    a.close().await;
    b.close().await;
}
