//! What a node does by itself: a new leader's first entry, expiry, checkpoints, its folder's name.

use std::sync::Arc;
use std::time::Duration;

use common::env::{Env, Mono};
use common::ids::ClusterId;
use common::sometimes;
use tokio::sync::broadcast;

use crate::apply::Applier;
use crate::config::Config;
use crate::entry::Ask;
use crate::event::Event;
use crate::identity::Identity;
use crate::peer::Peer;
use crate::propose::Proposer;
use crate::raft::Consensus;
use crate::watch::hold::Holds;
use crate::write::Attempt;

/// How often deadlines are looked at.
const SWEEP_EVERY: Duration = Duration::from_millis(20);
/// How often it is looked whether a checkpoint is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// While this node leads: begins its term's clock, names the cluster, removes what is due.
pub(crate) async fn lead(
    env: Env,
    consensus: Consensus,
    proposer: Proposer,
    applier: Arc<dyn Applier>,
    peer: Peer,
) {
    let mut begun = None;
    let mut leader = consensus.watch_leader();
    loop {
        let Some(term) = consensus.leads() else {
            begun = None;
            // A leader may be known a moment before it may propose, and then nothing changes.
            if let Ok(Err(_)) = env.timeout(LOOK_EVERY, leader.changed()).await {
                return;
            }
            continue;
        };
        if begun != Some(term) {
            // An entry of its own starts the clock; the first leader's gives the cluster its id.
            let first = if applier.applied().cluster.is_some() {
                Ask::Due(Vec::new())
            } else {
                let cluster = ClusterId(env.rng.next_u64().max(1));
                let halves = [env.rng.next_u64(), env.rng.next_u64()];
                let mut secret = [0; 16];
                for (half, bytes) in halves.iter().zip(secret.chunks_exact_mut(8)) {
                    bytes.copy_from_slice(&half.to_le_bytes());
                }
                Ask::Found { cluster, secret }
            };
            if let Ok(Attempt::Answered(_)) = proposer.submit(first, true).await {
                begun = Some(term);
            }
        }
        if !peer.sweep().await {
            env.sleep(SWEEP_EVERY).await;
        }
    }
}

/// Tells who leads, as it changes.
pub(crate) async fn tell(consensus: Consensus, events: broadcast::Sender<Event>) {
    let mut leader = consensus.watch_leader();
    while leader.changed().await.is_ok() {
        let leader = *leader.borrow_and_update();
        let _ = events.send(Event::Leader { leader, term: consensus.view().term });
    }
}

/// Checkpoints by bytes of log and by time, and lets the log before them go.
pub(crate) async fn checkpoint(
    env: Env,
    consensus: Consensus,
    config: Config,
    applier: Arc<dyn Applier>,
    holds: Arc<Holds>,
) {
    let (mut at, mut when, mut bytes) = (applier.applied().at, env.now(), 0);
    loop {
        env.sleep(LOOK_EVERY).await;
        trim_feed(&consensus, applier.as_ref()).await;
        let now = applier.applied().at;
        let log = consensus.disk().bytes;
        let enough = log.saturating_sub(bytes) >= config.checkpoint_bytes
            || holds.strain(log)
            || is_over(&env, when, config.checkpoint_interval);
        if now == at || !enough {
            continue;
        }
        match consensus.checkpoint(config.keep_entries, &holds, config.checkpoint_interval).await {
            Ok(_) => {
                sometimes!("checkpointed");
                (at, when, bytes) = (now, env.now(), consensus.disk().bytes);
            }
            Err(error) => tracing::warn!(%error, "checkpoint failed; the log stays"),
        }
    }
}

/// Forgets what was changed by entries that the log has let go.
async fn trim_feed(consensus: &Consensus, applier: &dyn Applier) {
    let Some(purged) = consensus.purged() else { return };
    loop {
        match applier.trim_feed(purged) {
            Ok(false) => return,
            Ok(true) => tokio::task::yield_now().await,
            Err(error) => {
                tracing::warn!(%error, "old changes cannot be forgotten; trying again");
                return;
            }
        }
    }
}

fn is_over(env: &Env, since: Mono, interval: Duration) -> bool {
    env.now().since(since) >= interval
}

/// Writes into the folder which cluster it belongs to, once that is known.
pub(crate) async fn name_cluster(env: Env, mut identity: Identity, applier: Arc<dyn Applier>) {
    while identity.cluster.is_none() {
        if let Some(cluster) = applier.applied().cluster {
            identity.cluster = Some(cluster);
            if let Err(error) = identity.save(&env.disk).await {
                identity.cluster = None;
                tracing::warn!(%error, "the folder's identity cannot be saved; trying again");
            }
        }
        env.sleep(LOOK_EVERY).await;
    }
}
