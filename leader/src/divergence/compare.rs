//! From a check in the log to a verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::env::{Env, Mono};
use common::ids::{LogPos, NodeId};
use common::sometimes;
use futures::future::join_all;
use tokio::sync::broadcast;

use super::{Checked, Integrity, Quarantined, majority};
use crate::apply::Applier;
use crate::config::Config;
use crate::entry::Ask;
use crate::event::Event;
use crate::propose::Proposer;
use crate::raft::Consensus;
use crate::state_hash::{StateHash, hash};

/// How long another member may take to say what it has.
const QUESTION: Duration = Duration::from_secs(1);
/// How soon those are asked again that have no answer yet; doubled each time.
const AGAIN: Duration = Duration::from_millis(100);
/// The longest such pause.
const LONGEST: Duration = Duration::from_secs(30);
/// How often a node that waits for the next check looks whether it still leads.
const LOOK: Duration = Duration::from_millis(250);

/// While this node leads: proposes a check every `check_interval`, counted from the last one that
/// this node has applied.
pub(crate) async fn propose(
    env: Env,
    consensus: Consensus,
    config: Config,
    proposer: Proposer,
    applier: Arc<dyn Applier>,
) {
    let Some(interval) = config.check_interval else { return };
    let mut checks = applier.checks();
    let mut leader = consensus.watch_leader();
    let mut last = env.now();
    loop {
        if consensus.leads().is_none() {
            // A new leader counts from its own beginning.
            if let Ok(Err(_)) = env.timeout(LOOK, leader.changed()).await {
                return;
            }
            last = env.now();
            continue;
        }
        let left = (last + interval).since(env.now());
        if left > Duration::ZERO {
            match env.timeout(left.min(LOOK), checks.changed()).await {
                Ok(Ok(())) => last = env.now(),
                Ok(Err(_)) => return,
                Err(_) => {}
            }
            continue;
        }
        last = env.now();
        let _ = proposer.submit(Ask::Check, true).await;
    }
}

/// Hashes the cuts that checks have made, the newest first: what is older than that is too late.
pub(crate) async fn hash_cuts(
    env: Env,
    config: Config,
    applier: Arc<dyn Applier>,
    integrity: Integrity,
) {
    let mut checks = applier.checks();
    loop {
        let replaced = integrity.replaced();
        let Some(pinned) = applier.take_check() else {
            if checks.changed().await.is_err() {
                return;
            }
            continue;
        };
        let Some(at) = pinned.at.at else { continue };
        match hash(&env, &pinned, config.check_bytes_per_second).await {
            // A repair may have replaced the state while its former self was read.
            Ok(_) if integrity.replaced() != replaced => {}
            Ok(state) => integrity.note(at, state),
            Err(error) => tracing::error!(%error, "the state cannot be read to be checked"),
        }
    }
}

/// Compares every result of this member with the others', as long as the node runs.
pub(crate) async fn compare(
    env: Env,
    consensus: Consensus,
    integrity: Integrity,
    events: broadcast::Sender<Event>,
) {
    let mut newest = integrity.0.newest.subscribe();
    loop {
        let at = *newest.borrow_and_update();
        let settled = async {
            let Some(at) = at else { return };
            let mut told = Told::default();
            let mut pause = AGAIN;
            let mut states = BTreeMap::new();
            while !step(&consensus, &integrity, at, &mut states, &mut told, &events).await {
                env.sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            }
        };
        tokio::select! {
            biased;
            changed = newest.changed() => if changed.is_err() { return },
            () = async { settled.await; std::future::pending().await } => {}
        }
    }
}

/// What was said of one check already.
#[derive(Default)]
struct Told {
    differing: Vec<NodeId>,
    undecided: bool,
}

/// Asks those that have not answered, and acts on what is known. Whether nothing more will come.
async fn step(
    consensus: &Consensus,
    integrity: &Integrity,
    at: LogPos,
    states: &mut BTreeMap<NodeId, StateHash>,
    told: &mut Told,
    events: &broadcast::Sender<Event>,
) -> bool {
    let Some(own) = integrity.result(at) else { return true };
    let checked = ask(consensus, own, at, states).await;
    if integrity.result(at) != Some(own) {
        return true;
    }
    if let Some(right) = checked.majority {
        if own != right && integrity.quarantined().is_none() {
            sometimes!("divergence-quarantined");
            let why = Quarantined { at, own, majority: right };
            tracing::error!("this node serves no reads from now on: {why}");
            integrity.quarantine(why).await;
            let _ = events.send(Event::Quarantined(why));
        }
        for node in checked.differing() {
            if node != consensus.me() && !told.differing.contains(&node) {
                tracing::error!(%node, "the state of a member differs from the majority's");
                told.differing.push(node);
                let _ = events.send(Event::Diverged { node, at });
            }
        }
    } else if checked.silent().is_empty() && !told.undecided {
        told.undecided = true;
        tracing::error!(
            index = at.index,
            "the states of the members differ, and no state has a majority: nobody can say which is \
             right; compare them with a backup"
        );
        let _ = events.send(Event::Undecided { at });
    }
    let equal = checked.majority.is_some() && checked.differing().is_empty();
    if equal && checked.silent().is_empty() {
        sometimes!("states-compared-equal");
    }
    checked.silent().is_empty()
}

/// Asks the members that have not answered yet.
async fn ask(
    consensus: &Consensus,
    own: StateHash,
    at: LogPos,
    states: &mut BTreeMap<NodeId, StateHash>,
) -> Checked {
    let me = consensus.me();
    states.insert(me, own);
    let members = consensus.members();
    let all: Vec<NodeId> = members.voters.iter().chain(&members.learners).copied().collect();
    let open = all.iter().copied().filter(|id| !states.contains_key(id));
    let asked =
        open.map(|id| async move { Some((id, consensus.ask_state(id, at, QUESTION).await?)) });
    states.extend(join_all(asked).await.into_iter().flatten());
    let mut known: BTreeMap<NodeId, Option<StateHash>> =
        all.into_iter().map(|id| (id, states.get(&id).copied())).collect();
    known.insert(me, Some(own));
    Checked { at, members: known, majority: majority(&members.voters, states) }
}

/// Waits for what all members have at a position, at most until `deadline`.
pub(crate) async fn collect(
    env: &Env,
    consensus: &Consensus,
    integrity: &Integrity,
    at: LogPos,
    deadline: Mono,
) -> Option<Checked> {
    let mut newest = integrity.0.newest.subscribe();
    let own = loop {
        newest.borrow_and_update();
        if let Some(own) = integrity.found(at) {
            break own;
        }
        if env.now() >= deadline || env.timeout_at(deadline, newest.changed()).await.is_err() {
            return None;
        }
    };
    let mut states = BTreeMap::new();
    let mut pause = AGAIN;
    loop {
        let checked = ask(consensus, own, at, &mut states).await;
        if checked.silent().is_empty() || env.now() >= deadline {
            return Some(checked);
        }
        env.sleep(pause.min(deadline.since(env.now()))).await;
        pause = (pause * 2).min(LONGEST);
    }
}
