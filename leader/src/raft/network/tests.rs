use std::sync::Mutex;

use async_trait::async_trait;
use common::env::SplitMix64;
use common::env::simulated::{SimHost, SimWorldClock, Trace};
use common::ids::LogPos;
use common::storage::disk::simulated::{SimDisk, SimDiskConfig};
use common::storage::engine::{Engine, EngineError, Generation};
use common::transport::Handler;
use common::transport::simulated::{SimNetwork, SimNetworkConfig};
use futures::stream;

use super::*;
use crate::apply::{Applied, Applier, Committed, Pinned};
use crate::entry::EntryReply;
use crate::raft::type_config::{Cmd, Entry, Payload};

/// A replica that nobody asks: these tests send no snapshot.
#[derive(Debug)]
struct NoReplica;

#[async_trait]
impl Applier for NoReplica {
    fn watch(&self) -> tokio::sync::watch::Receiver<Option<common::ids::LogPos>> {
        tokio::sync::watch::channel(None).1
    }
    fn last_of(&self, _: common::ids::ClientId) -> Option<u64> {
        None
    }
    fn judge(&self, _: u64, indexes: std::ops::Range<u64>) -> crate::raft::Judgement {
        crate::raft::Judgement { committed: indexes.start, lost: indexes.start }
    }
    fn roster(&self) -> crate::membership::roster::Roster {
        crate::membership::roster::Roster::default()
    }
    fn applied(&self) -> Applied {
        Applied::default()
    }
    fn apply(&self, _: Vec<Committed>) -> Result<Vec<EntryReply>, EngineError> {
        unimplemented!()
    }
    fn counter(&self) -> crate::quota::Counter {
        crate::quota::Counter::default()
    }
    fn weigh(
        &self,
        _: &[Bytes],
        _: crate::quota::Usage,
        _: crate::quota::Quota,
    ) -> Result<crate::apply::Weighed, EngineError> {
        unimplemented!()
    }
    fn feed(&self) -> Result<crate::watch::feed::FeedCut, EngineError> {
        unimplemented!()
    }
    fn trim_feed(&self, _: common::ids::LogPos) -> Result<bool, EngineError> {
        unimplemented!()
    }
    async fn checkpoint(&self) -> Result<Applied, EngineError> {
        unimplemented!()
    }
    fn checks(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }
    fn take_check(&self) -> Option<Pinned> {
        None
    }
    fn pin(&self) -> Result<Pinned, EngineError> {
        unimplemented!()
    }
    async fn receive(&self) -> Result<(Generation, Arc<dyn Engine>), EngineError> {
        unimplemented!()
    }
    async fn install(&self, _: Generation, _: Applied) -> Result<(), EngineError> {
        unimplemented!()
    }
}

type Script = dyn Fn(&Request) -> Result<Reply, String> + Send + Sync;

/// A member that notes what arrives and answers by a script, each time after a while.
struct Peer {
    arrived: Mutex<Vec<(Class, Request)>>,
    /// Under way now, and at most.
    busy: Mutex<(usize, usize)>,
    env: Env,
    delay: Duration,
    script: Box<Script>,
}

struct Serving(Arc<Peer>);

impl Handler for Serving {
    fn handle(
        &self,
        _: NodeId,
        class: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let peer = self.0.clone();
        let request = Request::decode(&body).unwrap();
        let answer = (peer.script)(&request);
        peer.arrived.lock().unwrap().push((class, request));
        {
            let mut busy = peer.busy.lock().unwrap();
            busy.0 += 1;
            busy.1 = busy.1.max(busy.0);
        }
        Box::pin(async move {
            peer.env.sleep(peer.delay).await;
            peer.busy.lock().unwrap().0 -= 1;
            answer.map(|reply| reply.encode())
        })
    }
}

/// This node, and one peer.
struct World {
    env: Env,
    acks: Acks,
    network: Network,
    fabric: SimNetwork,
    peer: Arc<Peer>,
}

const ME: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);

impl World {
    fn new(
        delay: Duration,
        script: impl Fn(&Request) -> Result<Reply, String> + Send + Sync + 'static,
    ) -> Self {
        let (world, rng, trace) = (SimWorldClock::new(), SplitMix64::new(1), Trace::default());
        let fabric = SimNetwork::new(&world, &rng, trace.clone(), SimNetworkConfig::default());
        let boot = |node: NodeId| {
            let disk = SimDisk::new(node, &world, &rng, trace.clone(), SimDiskConfig::default());
            let host = SimHost::new(node, &world, &rng, trace.clone());
            host.boot(|life| (fabric.attach(node, life), disk.mount(life)))
        };
        let (env, peer) = (boot(ME), boot(PEER));
        let (arrived, busy) = (Mutex::default(), Mutex::default());
        let serving =
            Arc::new(Peer { arrived, busy, env: peer.clone(), delay, script: Box::new(script) });
        peer.transport.serve(Arc::new(Serving(serving.clone())));
        let acks = Acks::new(ME);
        let sender = Arc::new(Sender::new(&env, Arc::new(NoReplica), 1 << 20));
        let network = Network::new(&env, &Config::new(ME, "test"), acks.clone(), sender);
        Self { env, acks, network, fabric, peer: serving }
    }

    async fn data(&mut self) -> Link {
        self.network.new_client(PEER.0, &PeerAddr::default()).await
    }

    fn arrived(&self) -> Vec<(Class, Request)> {
        self.peer.arrived.lock().unwrap().clone()
    }
}

const MS: Duration = Duration::from_millis(1);

fn option() -> RPCOption {
    RPCOption::new(50 * MS)
}

fn at(term: u64, index: u64) -> LogPos {
    LogPos { term, index }
}

/// An append of term 3: one entry of `size` bytes at `index`, or none behind it.
fn append_of(index: u64, size: Option<usize>) -> AppendEntriesRequest<TypeConfig> {
    let entry = |size| Entry {
        log_id: log_id(at(3, index)),
        payload: Payload::Normal(Cmd::new(vec![0; size].into(), None)),
    };
    AppendEntriesRequest {
        vote: RaftVote::new_committed(3, 1),
        prev_log_id: index.checked_sub(1).map(|before| log_id(at(3, before))),
        entries: size.map(entry).into_iter().collect(),
        leader_commit: None,
    }
}

/// Says yes to everything.
fn accept(request: &Request) -> Result<Reply, String> {
    let Request::Append { previous, entries, .. } = request else {
        return Err("not an append".into());
    };
    let next = previous.map_or(0, |at| at.index + 1);
    let last = (next + entries.len() as u64).checked_sub(1).map(|index| at(3, index));
    Ok(Reply::Appended { outcome: Appended::Durable(last), applied: Some(at(3, 0)) })
}

async fn run(
    link: &mut Link,
    appends: Vec<AppendEntriesRequest<TypeConfig>>,
) -> Vec<Result<StreamAppendResult<TypeConfig>, Failed>> {
    let replies = link.stream_append(stream::iter(appends), option()).await.unwrap();
    replies.collect().await
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_goes_ahead_of_the_log_and_leaves_its_stream_alone() {
    let mut world = World::new(Duration::ZERO, accept);
    world
        .env
        .clone()
        .scope(async {
            let mut data = world.data().await;
            let mut beats = world.network.new_heartbeat_client(PEER.0, &PeerAddr::default()).await;
            assert!(run(&mut data, vec![append_of(1, Some(10))]).await[0].is_ok());
            assert!(run(&mut beats, vec![append_of(2, None)]).await[0].is_ok());
            let arrived = world.arrived();
            assert!(matches!(arrived[0], (Class::Data, Request::Append { stream: Some(_), .. })));
            assert!(matches!(arrived[1], (Class::Control, Request::Append { stream: None, .. })));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn appends_are_pipelined_and_answered_in_order() {
    let mut world = World::new(20 * MS, accept);
    world
        .env
        .clone()
        .scope(async {
            let mut data = world.data().await;
            let begun = world.env.now();
            let replies = run(&mut data, (1..=200).map(|i| append_of(i, Some(10))).collect()).await;
            let took = world.env.now().since(begun);
            let found: Vec<_> =
                replies.into_iter().map(|r| r.unwrap().unwrap().unwrap().index).collect();
            assert_eq!(found, (1..=200).collect::<Vec<_>>());
            assert!(took < 200 * MS, "one after the other they take 4 s: {took:?}");
            assert_eq!(world.peer.busy.lock().unwrap().1, CALLS);
            // One stream, and each append once, in order.
            let numbers: Vec<_> = world
                .arrived()
                .into_iter()
                .map(|(_, request)| match request {
                    Request::Append { stream, previous, .. } => {
                        (stream.unwrap(), previous.unwrap().index)
                    }
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(numbers, (0..200).map(|i| (numbers[0].0, i)).collect::<Vec<_>>());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn large_appends_under_way_are_bounded_by_their_bytes() {
    let mut world = World::new(20 * MS, accept);
    world
        .env
        .clone()
        .scope(async {
            let mut data = world.data().await;
            let replies =
                run(&mut data, (1..=20).map(|i| append_of(i, Some(3 << 20))).collect()).await;
            assert_eq!(replies.len(), 20);
            // The third takes it over the limit, the fourth waits.
            assert_eq!(world.peer.busy.lock().unwrap().1, 3);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn only_replies_of_the_term_that_is_led_are_counted() {
    let mut world = World::new(Duration::ZERO, accept);
    world
        .env
        .clone()
        .scope(async {
            let mut data = world.data().await;
            world.acks.lead(4);
            run(&mut data, vec![append_of(7, Some(10))]).await.remove(0).unwrap().unwrap();
            assert!(world.acks.matched().is_empty());
            world.acks.lead(3);
            run(&mut data, vec![append_of(8, Some(10))]).await.remove(0).unwrap().unwrap();
            assert_eq!(world.acks.matched(), [(PEER, at(3, 8))].into());
            assert_eq!(world.acks.applied_by(), [(PEER, at(3, 0))].into());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_conflict_ends_the_stream_and_names_where() {
    let mut world = World::new(5 * MS, |request| match request {
        Request::Append { previous: Some(before), .. } if before.index >= 3 => {
            Ok(Reply::Appended { outcome: Appended::Conflict, applied: None })
        }
        other => accept(other),
    });
    world
        .env
        .clone()
        .scope(async {
            let mut data = world.data().await;
            let replies = run(&mut data, (1..=10).map(|i| append_of(i, Some(10))).collect()).await;
            assert_eq!(replies.len(), 4, "nothing behind the conflict counts: {replies:?}");
            let last = replies.into_iter().next_back().unwrap().unwrap();
            assert_eq!(last, Err(StreamAppendError::Conflict(log_id(at(3, 3)))));
        })
        .await;
}

/// Trap 5 of the design: a slow sync of the member is no reason to begin again.
#[tokio::test(start_paused = true)]
async fn a_slow_member_is_waited_for_and_a_silent_one_is_not() {
    let mut world = World::new(500 * MS, accept);
    world
        .env
        .clone()
        .scope(async {
            let mut data = world.data().await;
            assert!(run(&mut data, vec![append_of(1, Some(10))]).await[0].is_ok());
            world.fabric.cut(ME, PEER);
            let begun = world.env.now();
            let replies = run(&mut data, vec![append_of(2, Some(10))]).await;
            assert!(replies[0].is_err());
            let took = world.env.now().since(begun);
            assert!(took >= 600 * MS && took <= 2000 * MS, "{took:?}");
        })
        .await;
}

/// Otherwise an isolated node would elect itself on votes that nobody gave.
#[tokio::test(start_paused = true)]
async fn an_unreachable_member_grants_nothing() {
    let mut world = World::new(Duration::ZERO, |_| Err("no votes yet".into()));
    world
        .env
        .clone()
        .scope(async {
            let mut control = world.data().await;
            let ask = || VoteRequest::new(RaftVote::new(4, 1), None);
            assert!(control.pre_vote(ask(), option()).await.is_err(), "a refusal is no grant");
            assert!(control.vote(ask(), option()).await.is_err());
            world.fabric.cut(ME, PEER);
            assert!(control.pre_vote(ask(), option()).await.is_err());
            assert!(control.vote(ask(), option()).await.is_err());
            let transfer = TransferLeaderRequest::new(RaftVote::new_committed(3, 1), 2, None);
            assert!(control.transfer_leader(transfer, option()).await.is_err());
            let classes: Vec<Class> = world.arrived().iter().map(|(class, _)| *class).collect();
            assert_eq!(classes, [Class::Control, Class::Control]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_pause_before_the_next_try_doubles_up_to_a_second() {
    let mut world = World::new(Duration::ZERO, accept);
    world
        .env
        .clone()
        .scope(async {
            let data = world.data().await;
            let mut pauses = data.backoff().unwrap();
            for expected in [50, 100, 200, 400, 800, 1000, 1000, 1000] {
                let pause = pauses.next().unwrap();
                let (least, most) = (expected * MS, (expected * 5 / 4 + 1) * MS);
                assert!(pause >= least && pause <= most, "{pause:?} instead of {expected} ms");
            }
        })
        .await;
}
