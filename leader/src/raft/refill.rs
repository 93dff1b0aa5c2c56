//! A member whose state is behind its own log takes a state from another before it takes part.
//!
//! The engine is a cache of the log, but a log whose beginning was purged can no longer rebuild it.
//! When the engine has lost what a checkpoint had made durable (its folder was removed, restored
//! from an old copy, or lied about a sync), the log and the vote are still right, so the member
//! keeps its id. It must not serve or vote from the old state: it asks the others for theirs, puts
//! it under its log, and only then starts its consensus core. Meanwhile it answers nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::env::Env;
use common::ids::{LogPos, NodeId};
use common::transport::{Class, Handler};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::log_store::LogStore;
use super::machine::members_of;
use super::snapshot::{Receiver, SnapshotHandle};
use crate::apply::Applier;
use crate::config::Config;
use crate::error::OpenError;
use crate::message::{Reply, Request, Vote};

/// How long one member may take to say whether it sends its state.
const ANSWER: Duration = Duration::from_secs(1);
/// How often it is looked at whether the state gets on, and how soon all are asked again.
const STEP: Duration = Duration::from_millis(200);
/// A state that has not got on for this long is asked for again, of the next member.
const STALLED: Duration = Duration::from_secs(10);
/// How long the others may stay silent before opening is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes a state that contains everything up to `purged` from another member.
pub(super) async fn refill(
    env: &Env,
    config: &Config,
    applier: &Arc<dyn Applier>,
    log: &LogStore,
    purged: LogPos,
) -> Result<(), OpenError> {
    let had = applier.applied();
    let mut others: BTreeMap<NodeId, String> = config.contacts.clone();
    // An old state still knows who the members were.
    if let Ok(known) = members_of(&had) {
        let known =
            known.membership().nodes().map(|(id, node)| (NodeId(*id), node.address.clone()));
        others.extend(known);
    }
    others.remove(&env.node);
    if others.is_empty() {
        return Err(behind(had.at, purged, "and this node knows no other member to take it from"));
    }
    tracing::warn!(
        had = ?had.at, ?purged,
        "the state lost what was durable, and the log does not go back so far: taking a state from \
         another member"
    );
    let waiting = Arc::new(Waiting {
        env: env.clone(),
        receiver: Receiver::new(applier.clone()),
        applier: applier.clone(),
        log: log.clone(),
        purged,
        taken: watch::Sender::new(false),
    });
    for (id, address) in &others {
        env.transport.learn(*id, address);
    }
    env.transport.serve(Arc::new(Served(waiting.clone())));
    let (mut quiet_since, mut seen) = (env.now(), 0);
    loop {
        for id in others.keys() {
            if !waiting.asks(*id).await {
                continue;
            }
            // It comes, or stops coming.
            let mut since = env.now();
            while env.now().since(since) < STALLED {
                if waiting.is_taken(STEP).await {
                    common::sometimes!("lost-state-taken-from-a-member");
                    return Ok(());
                }
                let chunks = waiting.receiver.chunks();
                if chunks > seen {
                    (since, quiet_since, seen) = (env.now(), env.now(), chunks);
                }
            }
        }
        if env.now().since(quiet_since) > PATIENCE {
            return Err(behind(
                had.at,
                purged,
                "and no other member has sent its own for a minute",
            ));
        }
        env.sleep(STEP).await;
    }
}

fn behind(had: Option<LogPos>, purged: LogPos, why: &str) -> OpenError {
    let show = |at: Option<LogPos>| {
        at.map_or("nothing".to_owned(), |at| format!("term {} index {}", at.term, at.index))
    };
    OpenError::Inconsistent(format!(
        "the engine holds {}, but the log begins after {}: the engine lost what was durable, {why}; \
         start this node while a majority of the others runs, or put the engine's folder back as it \
         was, or restore a backup; nothing was changed",
        show(had),
        show(Some(purged)),
    ))
}

/// What serves the peers of a member that waits for a state.
struct Waiting {
    env: Env,
    receiver: Receiver,
    applier: Arc<dyn Applier>,
    log: LogStore,
    purged: LogPos,
    taken: watch::Sender<bool>,
}

impl Waiting {
    /// Asks a member for its state; whether it will send it.
    async fn asks(&self, member: NodeId) -> bool {
        let request = Request::Snapshot { after: self.purged }.encode();
        let call = self.env.transport.call(member, Class::Control, request, ANSWER);
        match call.await.ok().and_then(|bytes| Reply::decode(&bytes).ok()) {
            Some(Reply::Repairing) => true,
            Some(Reply::Rejected { reason }) => {
                tracing::info!(%member, reason, "no state to take from this member");
                false
            }
            _ => false,
        }
    }

    async fn is_taken(&self, within: Duration) -> bool {
        let mut taken = self.taken.subscribe();
        let waited = self.env.timeout(within, taken.wait_for(|taken| *taken)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Puts a received state under the log.
    async fn install(&self, from: NodeId, id: u64) -> Result<(), String> {
        let received = self.receiver.finish(from, id).await;
        let (handle, at) = received.map_err(|error| error.to_string())?;
        let SnapshotHandle::Received { generation, .. } = handle else { return Ok(()) };
        if *self.taken.borrow() {
            return Err("this node has taken another state".to_owned());
        }
        if at.at < Some(self.purged) {
            return Err("the state is older than this node's log".to_owned());
        }
        self.log.sync().await.map_err(|error| error.to_string())?;
        self.applier.install(generation, at).await.map_err(|error| error.to_string())?;
        self.taken.send_replace(true);
        Ok(())
    }
}

/// The waiting member as its peers see it.
struct Served(Arc<Waiting>);

impl Handler for Served {
    fn handle(
        &self,
        from: NodeId,
        _: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let waiting = self.0.clone();
        async move {
            let request = Request::decode(&body);
            let reply = match request.map_err(|e| format!("the message cannot be read: {e}"))? {
                Request::Offer { id, meta, .. } => waiting.receiver.offer(from, id, &meta).await,
                Request::Chunk { id, number, last, body, crc32c } => {
                    waiting.receiver.chunk((from, id), (number, last), (&body, crc32c)).await
                }
                Request::Install { id, vote } => {
                    // A task of its own: it must come to its end whatever becomes of the connection.
                    let (parts, own) = (waiting.clone(), waiting.log.vote());
                    let install = async move { parts.install(from, id).await };
                    let done = waiting.env.spawn("taking over a state", install).await;
                    match done.map_err(|ended| ended.to_string()).flatten() {
                        Ok(()) => {
                            Reply::Installed(own.unwrap_or(Vote { established: false, ..vote }))
                        }
                        Err(reason) => Reply::Rejected { reason },
                    }
                }
                _ => return Err("this node waits for a state in the place of one it lost".into()),
            };
            Ok(reply.encode())
        }
        .boxed()
    }
}
