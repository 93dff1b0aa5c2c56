//! Snapshots on their way between members: offered, sent in chunks, installed.
//!
//! Up to eight chunks are under way at once. After a broken connection the same snapshot is offered
//! again, and the receiver names the chunk to go on from. The sender keeps the chunks that are not
//! confirmed; the state it reads from stays pinned, and the log behind it is held.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::codec::{self, Format};
use common::env::{Env, Mono};
use common::ids::{LogPos, NodeId};
use common::sometimes;
use common::storage::engine::Generation;
use common::transport::Class;
use futures::stream::{FuturesOrdered, StreamExt};

use crate::apply::{Applied, Applier};
use crate::message::{Reply, Request, Vote};
use crate::snapshot::{Sink, SnapshotError, Source};

/// Chunks under way at once.
const WINDOW: usize = 8;
/// How long one chunk may take.
const CHUNK: Duration = Duration::from_secs(5);
/// A transfer without progress for this long gives up its pinned state.
const ABANDONED: Duration = Duration::from_secs(60);

const META: Format = Format { magic: *b"TLsm", version: 1 };

/// What openraft hands around as a snapshot's data.
#[derive(Clone, Debug)]
pub(crate) enum SnapshotHandle {
    /// This node's own state, read when a member needs it.
    Local,
    /// A received state, complete and checked, to be switched to.
    Received {
        /// The engine generation it is in.
        generation: Generation,
        /// Its position.
        at: Applied,
    },
}

/// Why a snapshot was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The member cannot be reached or does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// The transfer is not wanted any more.
    #[error("the replication to this member has ended")]
    Cancelled,
    /// The member refused it.
    #[error("refused: {0}")]
    Rejected(String),
    /// Reading the own state failed.
    #[error(transparent)]
    Engine(#[from] common::storage::engine::EngineError),
}

/// A snapshot that is being sent to one member.
#[derive(Debug)]
struct Outgoing {
    id: u64,
    source: Source,
    /// Chunks that are not confirmed, in order.
    unconfirmed: VecDeque<Chunk>,
    /// The number of the next chunk to read.
    next: u32,
    ended: bool,
    progress: Mono,
}

#[derive(Clone, Debug)]
struct Chunk {
    number: u32,
    body: Bytes,
    last: bool,
}

/// All snapshots that this node is sending.
#[derive(Debug)]
pub(crate) struct Sender {
    env: Env,
    applier: Arc<dyn Applier>,
    chunk_bytes: usize,
    parked: Mutex<BTreeMap<NodeId, Outgoing>>,
    /// The first log entry that each transfer under way needs after it.
    held: Mutex<BTreeMap<NodeId, u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sender {
    /// Sends from this replica.
    pub(crate) fn new(env: &Env, applier: Arc<dyn Applier>, chunk_bytes: usize) -> Self {
        let (parked, held) = (Mutex::default(), Mutex::default());
        Self { env: env.clone(), applier, chunk_bytes, parked, held }
    }

    /// The smallest index whose entry a receiver will still need: nothing from it on may be purged.
    pub(crate) fn hold(&self) -> Option<u64> {
        let now = self.env.now();
        let mut parked = lock(&self.parked);
        let gone: Vec<NodeId> = parked
            .iter()
            .filter(|(_, out)| now.since(out.progress) > ABANDONED)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in gone {
            parked.remove(&peer);
            lock(&self.held).remove(&peer);
        }
        lock(&self.held).values().min().copied()
    }

    /// Sends the state to a member and returns its vote after the installation. The state contains
    /// `at_least`: that is what the caller counts as held by the member from then on.
    pub(crate) async fn send(
        &self,
        peer: NodeId,
        at_least: Option<LogPos>,
        vote: Vote,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<Vote, SendError> {
        let mut out = self.resume_or_begin(peer, at_least)?;
        let sent = {
            let transfer = std::pin::pin!(self.transfer(peer, vote, &mut out));
            let cancel = std::pin::pin!(cancel);
            match futures::future::select(transfer, cancel).await {
                futures::future::Either::Left((sent, _)) => sent,
                futures::future::Either::Right(_) => Err(SendError::Cancelled),
            }
        };
        match &sent {
            // A link that broke may come back: what is pinned and unconfirmed stays for then.
            Err(SendError::Unreachable(_) | SendError::Cancelled) => {
                lock(&self.parked).insert(peer, out);
            }
            _ => {
                lock(&self.held).remove(&peer);
            }
        }
        sent
    }

    fn resume_or_begin(
        &self,
        peer: NodeId,
        at_least: Option<LogPos>,
    ) -> Result<Outgoing, SendError> {
        // A parked state that is too old would leave a gap behind what the caller believes is there.
        if let Some(out) = lock(&self.parked).remove(&peer)
            && out.source.at().at >= at_least
        {
            return Ok(out);
        }
        let pinned = self.applier.pin()?;
        lock(&self.held).insert(peer, pinned.at.index() + 1);
        Ok(Outgoing {
            id: self.env.rng.next_u64(),
            source: Source::new(pinned),
            unconfirmed: VecDeque::new(),
            next: 0,
            ended: false,
            progress: self.env.now(),
        })
    }

    async fn ask(&self, peer: NodeId, request: &Request) -> Result<Reply, SendError> {
        let body = request.encode();
        let answer = self.env.transport.call(peer, Class::Bulk, body, CHUNK).await;
        let bytes = answer.map_err(|error| SendError::Unreachable(error.to_string()))?;
        Reply::decode(&bytes).map_err(|error| SendError::Rejected(error.to_string()))
    }

    async fn transfer(
        &self,
        peer: NodeId,
        vote: Vote,
        out: &mut Outgoing,
    ) -> Result<Vote, SendError> {
        let offer = Request::Offer { id: out.id, vote, meta: encode_meta(out.source.at()) };
        let wanted = match self.ask(peer, &offer).await? {
            Reply::Wanted { next } => next,
            other => return Err(rejected(other)),
        };
        out.confirm(wanted)?;
        if wanted > 0 {
            sometimes!("snapshot-resumed");
        }
        let mut under_way = FuturesOrdered::new();
        let mut again: VecDeque<Chunk> = out.unconfirmed.iter().cloned().collect();
        loop {
            while under_way.len() < WINDOW {
                let Some(chunk) = (match again.pop_front() {
                    Some(chunk) => Some(chunk),
                    None => out.read(self.chunk_bytes)?,
                }) else {
                    break;
                };
                let request = Request::Chunk {
                    id: out.id,
                    number: chunk.number,
                    last: chunk.last,
                    crc32c: codec::checksum(&chunk.body),
                    body: chunk.body,
                };
                let call = self.env.transport.call(peer, Class::Bulk, request.encode(), CHUNK);
                under_way.push_back(call);
            }
            let Some(answer) = under_way.next().await else { break };
            let bytes = answer.map_err(|error| SendError::Unreachable(error.to_string()))?;
            match Reply::decode(&bytes) {
                Ok(Reply::Took { next }) => {
                    out.confirm(next)?;
                    out.progress = self.env.now();
                }
                Ok(other) => return Err(rejected(other)),
                Err(error) => return Err(SendError::Rejected(error.to_string())),
            }
        }
        if !out.unconfirmed.is_empty() {
            return Err(SendError::Unreachable("some chunks were not confirmed".into()));
        }
        match self.ask(peer, &Request::Install { id: out.id, vote }).await? {
            Reply::Installed(vote) => Ok(vote),
            other => Err(rejected(other)),
        }
    }
}

fn rejected(reply: Reply) -> SendError {
    SendError::Rejected(match reply {
        Reply::Rejected { reason } => reason,
        other => format!("an answer that does not fit: {other:?}"),
    })
}

impl Outgoing {
    /// The receiver has everything before this chunk.
    fn confirm(&mut self, next: u32) -> Result<(), SendError> {
        while self.unconfirmed.front().is_some_and(|chunk| chunk.number < next) {
            self.unconfirmed.pop_front();
        }
        let oldest = self.unconfirmed.front().map_or(self.next, |chunk| chunk.number);
        if next < oldest {
            // It forgot what it had confirmed: it was started again. A new transfer begins.
            return Err(SendError::Rejected("the receiver lost what it had".into()));
        }
        Ok(())
    }

    fn read(&mut self, size: usize) -> Result<Option<Chunk>, SendError> {
        if self.ended {
            return Ok(None);
        }
        let (body, last) = self.source.next_chunk(size)?;
        let chunk = Chunk { number: self.next, body, last };
        self.ended = last;
        self.next += 1;
        self.unconfirmed.push_back(chunk.clone());
        Ok(Some(chunk))
    }
}

pub(crate) fn encode_meta(at: &Applied) -> Bytes {
    codec::encode(META, at)
}

/// A snapshot that is being received.
#[derive(Debug)]
struct Receiving {
    from: NodeId,
    id: u64,
    at: Applied,
    generation: Generation,
    sink: Sink,
    next: u32,
    ended: bool,
}

/// The one snapshot that this node may be receiving.
#[derive(Debug)]
pub(crate) struct Receiver {
    applier: Arc<dyn Applier>,
    receiving: tokio::sync::Mutex<Option<Receiving>>,
    /// How many chunks have come, of whatever snapshot.
    chunks: AtomicU64,
}

impl Receiver {
    /// Receives into this replica.
    pub(crate) fn new(applier: Arc<dyn Applier>) -> Self {
        Self { applier, receiving: tokio::sync::Mutex::default(), chunks: AtomicU64::new(0) }
    }

    /// How many chunks have come since the start: a snapshot that gets on shows by it.
    pub(crate) fn chunks(&self) -> u64 {
        self.chunks.load(Ordering::Relaxed)
    }

    /// A snapshot is offered: the first chunk that is wanted of it.
    pub(crate) async fn offer(&self, from: NodeId, id: u64, meta: &[u8]) -> Reply {
        let mut receiving = self.receiving.lock().await;
        if let Some(known) = &*receiving
            && (known.from, known.id) == (from, id)
        {
            return Reply::Wanted { next: known.next };
        }
        let at: Applied = match codec::decode(META, meta, 1 << 20) {
            Ok(at) => at,
            Err(error) => return reject(format!("the snapshot's position: {error}")),
        };
        // The former one's engine is dropped before its generation is made anew.
        *receiving = None;
        match self.applier.receive().await {
            Ok((generation, engine)) => {
                let sink = Sink::new(engine);
                *receiving =
                    Some(Receiving { from, id, at, generation, sink, next: 0, ended: false });
                Reply::Wanted { next: 0 }
            }
            Err(error) => reject(error.to_string()),
        }
    }

    /// A chunk arrived: the next one that is missing.
    pub(crate) async fn chunk(
        &self,
        (from, id): (NodeId, u64),
        (number, last): (u32, bool),
        (body, crc32c): (&[u8], u32),
    ) -> Reply {
        let mut slot = self.receiving.lock().await;
        let Some(receiving) = slot.as_mut().filter(|r| (r.from, r.id) == (from, id)) else {
            return reject("this snapshot was not offered, or another one came after it".into());
        };
        self.chunks.fetch_add(1, Ordering::Relaxed);
        if codec::checksum(body) != crc32c {
            return reject(format!("chunk {number} is damaged"));
        }
        if number == receiving.next && !receiving.ended {
            if let Err(error) = receiving.sink.take(body) {
                let reason = error.to_string();
                *slot = None;
                return reject(reason);
            }
            receiving.next += 1;
            receiving.ended = last;
        }
        Reply::Took { next: receiving.next }
    }

    /// All is there: the checked state, to be installed. Without an error it is not received any
    /// more.
    pub(crate) async fn finish(
        &self,
        from: NodeId,
        id: u64,
    ) -> Result<(SnapshotHandle, Applied), SnapshotError> {
        let mut slot = self.receiving.lock().await;
        let Some(receiving) = slot.take_if(|r| (r.from, r.id) == (from, id)) else {
            return Err(SnapshotError::Incomplete);
        };
        receiving.sink.finish(&receiving.at)?;
        let Receiving { generation, at, .. } = receiving;
        Ok((SnapshotHandle::Received { generation, at: at.clone() }, at))
    }
}

fn reject(reason: String) -> Reply {
    Reply::Rejected { reason }
}
