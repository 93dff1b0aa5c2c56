//! The simulated network.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use super::{Addressing, Rate, SimNetwork, SimNetworkConfig};
use crate::env::SplitMix64;
use crate::env::simulated::{SimWorldClock, Trace};
use crate::ids::{Incarnation, NodeId};
use crate::transport::conformance::{self, Limits, Network};
use crate::transport::{CallError, Class, Handler, Transport};

struct Echo;

impl Handler for Echo {
    fn handle(
        &self,
        _from: NodeId,
        _class: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(async move { Ok(body) })
    }
}

/// Notes the first byte of what it gets.
struct Noting(Arc<std::sync::Mutex<Vec<u8>>>);

impl Handler for Noting {
    fn handle(
        &self,
        _from: NodeId,
        _class: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        self.0.lock().unwrap().push(body[0]);
        Box::pin(async move { Ok(body) })
    }
}

const SECOND: Duration = Duration::from_secs(5);

struct Conforming {
    world: SimWorldClock,
    net: SimNetwork,
}

impl Conforming {
    fn new(seed: u64, limits: Limits) -> Self {
        let world = SimWorldClock::new();
        let config = SimNetworkConfig {
            frame_limit: limits.frame,
            queue_messages: limits.calls,
            addressing: Addressing::Learned,
            ..SimNetworkConfig::default()
        };
        let net = SimNetwork::new(&world, &SplitMix64::new(seed), Trace::default(), config);
        Self { world, net }
    }
}

#[async_trait]
impl Network for Conforming {
    async fn bind(&self, node: NodeId) -> Arc<dyn Transport> {
        self.net.attach(node, Incarnation(1))
    }

    fn address(&self, node: NodeId) -> String {
        node.to_string()
    }

    fn sleep(&self, d: Duration) -> BoxFuture<'static, ()> {
        let (world, at) = (self.world, self.world.elapsed() + d);
        Box::pin(async move { world.sleep_until(at).await })
    }

    fn slack(&self) -> Duration {
        Duration::from_millis(2)
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulated_network_conforms() {
    for seed in 0..20 {
        Box::pin(conformance::all(&move |limits| Box::new(Conforming::new(seed, limits)))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_its_latency_both_ways() {
    let world = SimWorldClock::new();
    let net =
        SimNetwork::new(&world, &SplitMix64::new(1), Trace::default(), SimNetworkConfig::default());
    let a = net.attach(NodeId(1), Incarnation(1));
    let b = net.attach(NodeId(2), Incarnation(1));
    b.serve(Arc::new(Echo));
    let answer = a.call(NodeId(2), Class::Data, Bytes::from_static(b"hello"), SECOND).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"hello")));
    assert!(world.elapsed() >= Duration::from_millis(2));
}

/// Cutting one direction lets calls arrive but not their answers.
#[tokio::test(start_paused = true)]
async fn a_one_way_cut_loses_the_answers_until_it_is_healed() {
    let world = SimWorldClock::new();
    let net =
        SimNetwork::new(&world, &SplitMix64::new(2), Trace::default(), SimNetworkConfig::default());
    let a = net.attach(NodeId(1), Incarnation(1));
    let b = net.attach(NodeId(2), Incarnation(1));
    b.serve(Arc::new(Echo));
    net.cut(NodeId(2), NodeId(1));
    let call = || a.call(NodeId(2), Class::Data, Bytes::new(), Duration::from_secs(1));
    assert_eq!(call().await, Err(CallError::TimedOut(NodeId(2))));
    assert!(net.is_cut(NodeId(2), NodeId(1)) && !net.is_cut(NodeId(1), NodeId(2)));
    net.heal(NodeId(2), NodeId(1));
    assert_eq!(call().await, Ok(Bytes::new()));
    assert_eq!(net.under_way(), 0);
}

/// Of what is under way a prefix arrives, in order, and every call ends.
#[tokio::test(start_paused = true)]
async fn a_reset_loses_a_suffix_and_ends_every_call() {
    for seed in 0..50 {
        let world = SimWorldClock::new();
        let config = SimNetworkConfig::default();
        let net = SimNetwork::new(&world, &SplitMix64::new(seed), Trace::default(), config);
        let a = net.attach(NodeId(1), Incarnation(1));
        let b = net.attach(NodeId(2), Incarnation(1));
        b.serve(Arc::new(Echo));
        let calls: Vec<_> =
            (0..20_u8).map(|n| a.call(NodeId(2), Class::Data, vec![n].into(), SECOND)).collect();
        net.reset(NodeId(1), NodeId(2));
        let answers = futures::future::join_all(calls).await;
        assert!(world.elapsed() < SECOND, "no call waits for its deadline");
        let answered = answers.iter().take_while(|answer| answer.is_ok()).count();
        for broken in &answers[answered..] {
            assert_eq!(*broken, Err(CallError::Broken(NodeId(2))));
        }
    }
}

/// A fault that is over is over: what it delayed arrives at once, and nothing later waits for it.
#[tokio::test(start_paused = true)]
async fn a_slow_or_clogged_link_recovers_when_its_fault_ends() {
    let hour = Duration::from_secs(3600);
    for clogged in [true, false] {
        let world = SimWorldClock::new();
        let config = SimNetworkConfig::default();
        let net = SimNetwork::new(&world, &SplitMix64::new(3), Trace::default(), config);
        let a = net.attach(NodeId(1), Incarnation(1));
        let b = net.attach(NodeId(2), Incarnation(1));
        b.serve(Arc::new(Echo));
        if clogged {
            net.clog(NodeId(1), NodeId(2), hour);
        } else {
            net.set_rate(NodeId(1), NodeId(2), Some(Rate::Bytes(1)));
        }
        let call = |n: u8| a.call(NodeId(2), Class::Data, vec![n].into(), hour);
        let calls: Vec<_> = (0..20).map(call).collect();
        world.sleep_until(Duration::from_secs(10)).await;
        if clogged {
            net.clog(NodeId(1), NodeId(2), Duration::ZERO);
        } else {
            net.set_rate(NodeId(1), NodeId(2), None);
        }
        for answer in futures::future::join_all(calls).await {
            answer.unwrap();
        }
        call(99).await.unwrap();
        // The byte that was on the slow link when it recovered still takes its time.
        assert!(world.elapsed() < Duration::from_secs(45), "{:?}", world.elapsed());
    }
}

/// A clog ends by itself, too, and order is kept over it.
#[tokio::test(start_paused = true)]
async fn a_clog_ends_after_its_time_and_keeps_the_order() {
    let world = SimWorldClock::new();
    let config = SimNetworkConfig::default();
    let net = SimNetwork::new(&world, &SplitMix64::new(4), Trace::default(), config);
    let a = net.attach(NodeId(1), Incarnation(1));
    let b = net.attach(NodeId(2), Incarnation(1));
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    b.serve(Arc::new(Noting(seen.clone())));
    net.clog(NodeId(1), NodeId(2), Duration::from_secs(2));
    let mut calls = Vec::new();
    for n in 0..30_u8 {
        calls.push(a.call(NodeId(2), Class::Data, vec![n].into(), SECOND));
        world.sleep_until(world.elapsed() + Duration::from_millis(100)).await;
    }
    futures::future::join_all(calls).await;
    assert_eq!(*seen.lock().unwrap(), (0..30).collect::<Vec<u8>>());
}

/// What waits for a slow link and whose caller has given up never leaves.
#[tokio::test(start_paused = true)]
async fn a_call_that_ended_in_the_queue_never_leaves() {
    let world = SimWorldClock::new();
    let config = SimNetworkConfig::default();
    let net = SimNetwork::new(&world, &SplitMix64::new(5), Trace::default(), config);
    let a = net.attach(NodeId(1), Incarnation(1));
    let b = net.attach(NodeId(2), Incarnation(1));
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    b.serve(Arc::new(Noting(seen.clone())));
    net.set_rate(NodeId(1), NodeId(2), Some(Rate::Messages(1)));
    let patient = |n: u8, seconds| {
        a.call(NodeId(2), Class::Data, vec![n].into(), Duration::from_secs(seconds))
    };
    let (first, second, third) = (patient(1, 9), patient(2, 1), patient(3, 9));
    let (first, second, third) = futures::join!(first, second, third);
    assert!(first.is_ok() && third.is_ok());
    assert_eq!(second, Err(CallError::TimedOut(NodeId(2))));
    assert_eq!(*seen.lock().unwrap(), [1, 3]);
    assert!(world.elapsed() < Duration::from_secs(3));
}
