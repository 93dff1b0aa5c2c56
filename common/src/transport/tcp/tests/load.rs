//! Many calls, large bodies and slow handlers.

use std::time::Instant;

use tokio::sync::watch;

use super::faulty::FaultySockets;
use super::*;

/// Holds bulk until it is released; everything else is answered at once.
#[derive(Debug)]
struct SlowBulk(watch::Sender<bool>);

impl Handler for SlowBulk {
    fn handle(
        &self,
        _from: NodeId,
        class: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let mut released = self.0.subscribe();
        Box::pin(async move {
            if class == Class::Bulk {
                let _ = released.wait_for(|released| *released).await;
            }
            Ok(body.slice(..body.len().min(8)))
        })
    }
}

#[tokio::test]
async fn ten_thousand_calls_share_one_connection() {
    let sockets = Arc::new(FaultySockets::default());
    let a = bind_with(config(A), &sockets).await;
    let b = bind(config(B)).await;
    b.serve(Arc::new(Echo::default()));
    a.learn(B, b.address());
    let number = |n: u32| Bytes::copy_from_slice(&n.to_be_bytes());
    let calls: Vec<_> = (0..10_000).map(|n| a.call(B, Class::Data, number(n), LONG)).collect();
    for (n, answer) in (0..).zip(futures::future::join_all(calls).await) {
        assert_eq!(answer, Ok(number(n)));
    }
    assert_eq!(sockets.attempts(), 1);
    futures::future::join(a.close(), b.close()).await;
}

/// The kernel's buffers and the queue are full of bulk that nobody takes: heartbeats and requests
/// pass as ever, and once it is taken, all of the bulk arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_pass_a_bulk_transfer_that_fills_every_buffer() {
    const BODY: usize = 1 << 20;
    let limits = LinkLimits {
        queue_bytes: 24 * BODY,
        serving: 4,
        idle: Duration::from_secs(1),
        ..LinkLimits::default()
    };
    let (a, b) = (
        bind(TcpConfig { limits: limits.clone(), ..config(A) }).await,
        bind(TcpConfig { limits, ..config(B) }).await,
    );
    let (released, _) = watch::channel(false);
    let bulk = Arc::new(SlowBulk(released));
    b.serve(bulk.clone());
    a.learn(B, b.address());
    let body = Bytes::from(vec![7; BODY]);
    let mut transfer = Vec::new();
    // Full once, and full again when the kernel has taken its share.
    for _ in 0..4 {
        loop {
            let mut call = a.call(B, Class::Bulk, body.clone(), LONG * 2);
            match futures::FutureExt::now_or_never(&mut call) {
                None => transfer.push(call),
                Some(full) => {
                    assert_eq!(full, Err(CallError::Overloaded(B)));
                    break;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(transfer.len() > 24, "the queue alone holds 23");
    let began = Instant::now();
    // Longer than the idle limit: a connection under back-pressure is not taken for dead.
    while began.elapsed() < Duration::from_secs(2) {
        for class in [Class::Control, Class::Data] {
            let answer = a.call(B, class, Bytes::from_static(b"alive?"), LONG);
            assert_eq!(answer.await, Ok(Bytes::from_static(b"alive?")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bulk.0.send_replace(true);
    for answer in futures::future::join_all(transfer).await {
        assert_eq!(answer, Ok(body.slice(..8)));
    }
    futures::future::join(a.close(), b.close()).await;
}

/// Signs of life keep a connection that carries nothing, and one whose handler takes its time.
#[tokio::test]
async fn an_idle_connection_and_a_slow_handler_are_not_taken_for_dead() {
    let limits = LinkLimits { idle: Duration::from_millis(300), ..LinkLimits::default() };
    let sockets = Arc::new(FaultySockets::default());
    let a = bind_with(TcpConfig { limits: limits.clone(), ..config(A) }, &sockets).await;
    let b = bind(TcpConfig { limits, ..config(B) }).await;
    let (released, _) = watch::channel(false);
    let bulk = Arc::new(SlowBulk(released));
    b.serve(bulk.clone());
    a.learn(B, b.address());
    assert!(a.call(B, Class::Data, Bytes::from_static(b"first"), LONG).await.is_ok());
    let slow = a.call(B, Class::Bulk, Bytes::from_static(b"slow"), LONG);
    tokio::time::sleep(Duration::from_secs(1)).await;
    bulk.0.send_replace(true);
    assert_eq!(slow.await, Ok(Bytes::from_static(b"slow")));
    assert!(a.call(B, Class::Data, Bytes::from_static(b"later"), LONG).await.is_ok());
    assert_eq!(sockets.attempts(), 2, "one connection per class");
    let rtt = a.links()[0].rtt_micros;
    assert!(rtt.is_some_and(|micros| micros > 0), "pings measure the round trip: {rtt:?}");
    futures::future::join(a.close(), b.close()).await;
}

/// What was taken before the end is answered, as far as the drain allows.
#[tokio::test]
async fn a_graceful_close_lets_running_handlers_answer() {
    let (a, b) = (bind(config(A)).await, bind(config(B)).await);
    let (released, _) = watch::channel(false);
    let bulk = Arc::new(SlowBulk(released));
    b.serve(bulk.clone());
    a.learn(B, b.address());
    let call = a.call(B, Class::Bulk, Bytes::from_static(b"last"), LONG);
    until("the call is being served", || bulk.0.receiver_count() > 0).await;
    let closing = async {
        let closed = b.close();
        let release = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            bulk.0.send_replace(true);
        };
        futures::future::join(closed, release).await
    };
    let (answer, _) = futures::future::join(call, closing).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"last")));
    a.close().await;
}
