//! The replica, as openraft sees it.

use std::any::Any;
use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use common::ids::{LogPos, NodeId};
use common::storage::engine::EngineError;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, RaftSnapshotBuilder};

use super::log_store::LogStore;
use super::snapshot::SnapshotHandle;
use super::type_config::{
    Entry, LogId, Members, Membership, Replies, TypeConfig, log_id, position,
};
use crate::apply::{Applied, Applier, Committed, What};

type Stored = openraft::alias::StoredMembershipOf<TypeConfig>;
type Meta = openraft::alias::SnapshotMetaOf<TypeConfig>;
type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotHandle>;

/// The most entries applied as one batch.
const ENTRIES: usize = 256;
/// The most bytes of entries applied as one batch, unless one alone is larger.
const BYTES: usize = 1 << 20;

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// Nothing of the batch is written: the state is as it was before.
fn panicked(upto: u64, panic: &(dyn Any + Send)) -> io::Error {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    io::Error::other(format!(
        "the state machine has panicked on an entry up to {upto}: {}; nothing of that entry is in the \
         state, and every start will meet it again: start this node with a machine that can apply it",
        said.unwrap_or("no message")
    ))
}

fn encode_members(membership: &Membership) -> bytes::Bytes {
    common::codec::encode_body(&Members::from(membership)).into()
}

/// The members of a state.
pub(crate) fn members_of(applied: &Applied) -> io::Result<Stored> {
    let Some((at, bytes)) = &applied.members else { return Ok(Stored::default()) };
    let members: Members = common::codec::decode_body(bytes).map_err(other)?;
    Ok(Stored::new(Some(log_id(*at)), members.try_into().map_err(other)?))
}

/// The ids of all members of an encoded configuration.
pub(crate) fn member_ids(bytes: &bytes::Bytes) -> Result<BTreeSet<NodeId>, EngineError> {
    let members: Members = common::codec::decode_body(bytes)
        .map_err(|error| EngineError::Corrupt(format!("the members: {error}")))?;
    Ok(members.nodes.into_keys().collect())
}

/// What openraft calls a snapshot's metadata.
pub(crate) fn meta_of(applied: &Applied) -> io::Result<Meta> {
    Ok(Meta { last_log_id: applied.at.map(log_id), last_membership: members_of(applied)? })
}

/// The state machine that openraft drives.
#[derive(Clone, Debug)]
pub(crate) struct RaftMachine {
    applier: Arc<dyn Applier>,
    log: LogStore,
    /// The state at the last checkpoint: durable, whatever happens.
    last: Arc<std::sync::Mutex<Option<Applied>>>,
}

impl RaftMachine {
    /// Over a replica whose state up to `purged` is certainly durable.
    pub(crate) fn new(applier: Arc<dyn Applier>, log: LogStore, purged: Option<LogPos>) -> Self {
        let mut durable = applier.applied();
        durable.at = purged;
        let last = purged.map(|_| durable);
        Self { applier, log, last: Arc::new(std::sync::Mutex::new(last)) }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Applied>> {
        self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The state is durable at this position.
    pub(crate) fn note(&self, applied: Applied) {
        *self.last() = Some(applied);
    }

    fn apply_batch(&self, batch: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let mut entries = Vec::with_capacity(batch.len());
        let mut responders = Vec::with_capacity(batch.len());
        for (entry, responder) in batch {
            entries.push(committed(entry));
            responders.push(responder);
        }
        let upto = entries.last().map_or(0, |entry| entry.at.index);
        // A machine is other people's code. What it panics with must be read where the node stopped.
        let applied = catch_unwind(AssertUnwindSafe(|| self.applier.apply(entries)));
        let replies = applied.map_err(|panic| panicked(upto, panic.as_ref()))?.map_err(other)?;
        for (responder, reply) in responders.into_iter().zip(replies) {
            if let Some(responder) = responder {
                responder.send(Replies(Some(Box::new(reply))));
            }
        }
        Ok(())
    }
}

fn committed(entry: Entry) -> Committed {
    let at = position(&entry.log_id);
    let what = match entry.payload {
        EntryPayload::Blank => What::Blank,
        EntryPayload::Normal(command) => What::Body(command.body),
        EntryPayload::Membership(membership) => What::Members(encode_members(&membership)),
    };
    Committed { at, what }
}

fn size(entry: &EntryResponder<TypeConfig>) -> usize {
    match &entry.0.payload {
        EntryPayload::Normal(command) => command.body.len(),
        _ => 64,
    }
}

impl RaftStateMachine<TypeConfig> for RaftMachine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Stored)> {
        let applied = self.applier.applied();
        Ok((applied.at.map(log_id), members_of(&applied)?))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + openraft::OptionalSend,
    {
        // What is ready is applied as one batch; nothing waits for more to come.
        let mut ready = entries.ready_chunks(ENTRIES);
        while let Some(chunk) = ready.next().await {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            for entry in chunk {
                let entry = entry?;
                bytes += size(&entry);
                batch.push(entry);
                if bytes >= BYTES {
                    self.apply_batch(std::mem::take(&mut batch))?;
                    bytes = 0;
                }
            }
            if !batch.is_empty() {
                self.apply_batch(batch)?;
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Self> {
        Some(self.clone())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, _: &Meta, snapshot: SnapshotHandle) -> io::Result<()> {
        let SnapshotHandle::Received { generation, at } = snapshot else { return Ok(()) };
        // The log must not be behind what the state is durable for.
        self.log.sync().await.map_err(other)?;
        self.applier.install(generation, at.clone()).await.map_err(other)?;
        common::sometimes!("snapshot-installed");
        self.note(at);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let Some(last) = self.last().clone() else { return Ok(None) };
        Ok(Some(Snapshot { meta: meta_of(&last)?, snapshot: SnapshotHandle::Local }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for RaftMachine {
    type SnapshotData = SnapshotHandle;

    /// A checkpoint: what a snapshot holds is read from the engine when a member needs it.
    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        // Entries can be committed and applied before this node's own log holds them durably.
        self.log.sync().await.map_err(other)?;
        let applied = self.applier.checkpoint().await.map_err(other)?;
        self.note(applied.clone());
        Ok(Snapshot { meta: meta_of(&applied)?, snapshot: SnapshotHandle::Local })
    }
}
