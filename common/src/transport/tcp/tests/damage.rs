//! What networks do to bytes: nothing of it reaches a handler, and calls pass again afterwards.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::faulty::FaultySockets;
use super::introductions::introduced;
use super::*;
use crate::env::SystemClock;
use crate::transport::frame::{self, Head, Kind};
use crate::transport::tcp::wire::{FrameReader, Pulse, ReadError};

/// A node on faulty sockets that knows another, which serves.
async fn pair(
    limits: LinkLimits,
) -> (Arc<FaultySockets>, Arc<TcpTransport>, Arc<TcpTransport>, Arc<Echo>) {
    let sockets = Arc::new(FaultySockets::default());
    let a = bind_with(TcpConfig { limits: limits.clone(), ..config(A) }, &sockets).await;
    let b = bind(TcpConfig { limits, ..config(B) }).await;
    let echo = Arc::new(Echo::default());
    b.serve(echo.clone());
    a.learn(B, b.address());
    (sockets, a, b, echo)
}

async fn end(a: &TcpTransport, b: &TcpTransport) {
    futures::future::join(a.close(), b.close()).await;
}

/// Wherever in the frame it is, and the next call gets a new connection.
#[tokio::test]
async fn a_flipped_byte_closes_the_connection_and_reaches_no_handler() {
    let (sockets, a, b, echo) = pair(LinkLimits::default()).await;
    for at in [1, 3, 5, 17, 25, 29, 40] {
        assert_eq!(call(&a, B, "before").await, Ok(Bytes::from_static(b"before")));
        let (served, attempts) = (echo.served(), sockets.attempts());
        sockets.flip_in(at);
        let ended = a.call(B, Class::Data, vec![7; 100].into(), LONG).await;
        assert_eq!(ended, Err(CallError::Broken(B)), "byte {at}");
        assert_eq!(echo.served(), served, "byte {at}");
        assert_eq!(call(&a, B, "after").await, Ok(Bytes::from_static(b"after")));
        assert_eq!(sockets.attempts(), attempts + 1, "byte {at}");
    }
    end(&a, &b).await;
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_frame_ends_its_calls_and_heals() {
    let (sockets, a, b, echo) = pair(LinkLimits::default()).await;
    assert!(call(&a, B, "first").await.is_ok());
    sockets.break_in(100_000);
    let calls: Vec<_> =
        (0..3).map(|n| a.call(B, Class::Data, vec![n; 70_000].into(), LONG)).collect();
    let ended = futures::future::join_all(calls).await;
    assert_eq!(ended.iter().filter(|e| **e == Err(CallError::Broken(B))).count(), 3, "{ended:?}");
    assert!(echo.served() <= 2, "a half frame was served");
    assert_eq!(call(&a, B, "after").await, Ok(Bytes::from_static(b"after")));
    assert_eq!(sockets.attempts(), 2);
    end(&a, &b).await;
}

/// The machine at the other end is gone without a word: that is noticed within the idle limit, not
/// by the deadline of whoever waits.
#[tokio::test]
async fn a_half_open_connection_is_noticed_and_replaced() {
    let limits = LinkLimits { idle: Duration::from_millis(600), ..LinkLimits::default() };
    let (sockets, a, b, _) = pair(limits).await;
    assert!(call(&a, B, "before").await.is_ok());
    sockets.half_open();
    let began = Instant::now();
    let lost = a.call(B, Class::Data, Bytes::from_static(b"into the void"), LONG).await;
    assert_eq!(lost, Err(CallError::Broken(B)));
    assert!(began.elapsed() < LONG / 2);
    assert_eq!(call(&a, B, "after").await, Ok(Bytes::from_static(b"after")));
    end(&a, &b).await;
}

/// The other side of the same: the node that was called frees what the dead connection held.
#[tokio::test]
async fn a_caller_that_is_gone_without_a_word_is_forgotten() {
    let limits = LinkLimits { idle: Duration::from_millis(300), ..LinkLimits::default() };
    let b = bind(TcpConfig { limits, ..config(B) }).await;
    let mut stream = introduced(b.address()).await;
    assert_eq!(b.links().len(), 1);
    until("the connection is dropped", || b.links().is_empty()).await;
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    assert!(String::from_utf8_lossy(&said).contains("nothing was heard"), "it says why");
    b.close().await;
}

/// Nobody connects in a circle: attempts come at growing intervals, and a call finds out at once
/// that the last one failed.
#[tokio::test]
async fn attempts_back_off_and_the_peers_return_is_noticed() {
    let limits = LinkLimits { backoff_max: Duration::from_millis(200), ..LinkLimits::default() };
    let (sockets, a, b, _) = pair(limits).await;
    sockets.refuse(true);
    let began = Instant::now();
    let mut calls = 0;
    while began.elapsed() < Duration::from_secs(1) {
        let refused = call(&a, B, "anybody?").await.unwrap_err();
        assert!(matches!(&refused, CallError::Unreachable(B, _)) && refused.never_sent());
        calls += 1;
    }
    let attempts = sockets.attempts();
    // 25 ms, 50 ms and then at least 100 ms apart.
    let most = 4 + began.elapsed().as_millis() / 100;
    assert!(attempts as u128 <= most, "{attempts} attempts for {calls} calls");
    assert!(attempts >= 3, "{attempts} attempts only");
    sockets.refuse(false);
    let began = Instant::now();
    while call(&a, B, "anybody?").await.is_err() {
        assert!(began.elapsed() < LONG);
    }
    end(&a, &b).await;
}

/// The peer that connects to us is there: no need to wait for the end of the interval.
#[tokio::test]
async fn a_peer_that_connects_ends_the_wait_for_it() {
    let minute = Duration::from_secs(60);
    let limits = LinkLimits { backoff_min: minute, backoff_max: minute, ..LinkLimits::default() };
    let (sockets, a, b, _) = pair(limits).await;
    a.serve(Arc::new(Echo::default()));
    sockets.refuse(true);
    assert!(call(&a, B, "anybody?").await.is_err());
    sockets.refuse(false);
    let waiting = call(&a, B, "and now?");
    let returning = async {
        until("the call waits", || true).await;
        b.learn(A, a.address());
        call(&b, A, "I am back").await
    };
    let (waited, returned) = futures::future::join(waiting, returning).await;
    assert!(returned.is_ok() && waited.is_ok(), "{waited:?}");
    end(&a, &b).await;
}

/// A frame header that claims more than the limit ends the connection before its body is awaited.
#[tokio::test]
async fn a_frame_over_the_limit_closes_the_connection_and_says_so() {
    let limits = LinkLimits { frame: 1 << 20, ..LinkLimits::default() };
    let b = bind(TcpConfig { limits, ..config(B) }).await;
    b.serve(Arc::new(Echo::default()));
    let mut stream = introduced(b.address()).await;
    stream.write_all(&(u32::MAX).to_le_bytes()).await.unwrap();
    let mut said = Vec::new();
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut said)).await.unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("over the limit of 1048576"), "{said}");
    b.close().await;
}

/// Memory follows what has arrived, not what a header announces.
#[tokio::test]
async fn an_announced_body_is_not_allocated_before_it_arrives() {
    let (mut far, near) = tokio::io::duplex(1 << 16);
    let pulse = Pulse::new(Arc::new(SystemClock::default()), Arc::default(), Arc::default());
    let mut reader = FrameReader::new(near, 1 << 30);
    // A head whose checksum is right: a body of a whole gigabyte is announced by 1,000 bytes of it.
    let mut head = frame::encode_header(Head::new(Kind::Call, Class::Bulk, 1), b"");
    head[..4].copy_from_slice(&(1_u32 << 30).to_le_bytes());
    let checksum = crc32c::crc32c(&head[..28]);
    head[28..].copy_from_slice(&checksum.to_le_bytes());
    far.write_all(&head).await.unwrap();
    far.write_all(&[0; 1000]).await.unwrap();
    drop(far);
    let refused = reader.next(&pulse).await;
    assert!(matches!(refused, Err(ReadError::Truncated)), "{refused:?}");
    assert!(reader.capacity() <= 1 << 17, "{} bytes for 1,032", reader.capacity());
}

/// Whatever a peer that is introduced sends: its connection ends, the node and the others do not.
#[tokio::test]
async fn a_peer_that_sends_nonsense_harms_only_itself() {
    let (_, a, b, _) = pair(LinkLimits::default()).await;
    let call_of_other_class = frame::encode(Head::new(Kind::Call, Class::Bulk, 1), b"x");
    let answer_to_nothing = frame::encode(Head::new(Kind::Reply, Class::Data, 1), b"x");
    for nonsense in [&[0xff_u8; 64][..], &[0; 64], &call_of_other_class, &answer_to_nothing] {
        // It claims to be the node whose connections are used below: they are of another class.
        let mut stream = introduced(b.address()).await;
        stream.write_all(nonsense).await.unwrap();
        let mut said = Vec::new();
        let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut said)).await.unwrap();
        let answer = a.call(B, Class::Control, Bytes::from_static(b"fine?"), LONG).await;
        assert_eq!(answer, Ok(Bytes::from_static(b"fine?")));
    }
    end(&a, &b).await;
}
