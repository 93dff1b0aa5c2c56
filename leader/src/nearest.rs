//! How near the other members are: smoothed round-trip times, measured while somebody asks.
//!
//! The first answer counts whole, each further one an eighth (RFC 6298). A member that does not answer
//! is not near. Nothing is measured while nobody reads by nearness.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::env::{Env, Mono};
use common::ids::NodeId;
use futures::future::join_all;
use tokio::sync::Notify;

use crate::raft::Consensus;

/// How long after a read the measuring goes on.
const WANTED: Duration = Duration::from_secs(10);
/// How often each member is asked.
const EVERY: Duration = Duration::from_millis(500);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The round-trip times from this member to the others.
#[derive(Clone, Debug)]
pub(crate) struct Nearest(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    env: Env,
    consensus: Consensus,
    state: Mutex<State>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    times: BTreeMap<NodeId, Duration>,
    asked: Option<Mono>,
}

impl Nearest {
    /// Measures nothing yet.
    pub(crate) fn start(env: &Env, consensus: &Consensus) -> Self {
        let (state, wanted) = (Mutex::default(), Notify::new());
        let parts = Parts { env: env.clone(), consensus: consensus.clone(), state, wanted };
        let nearest = Self(Arc::new(parts));
        env.spawn("round trips to members", nearest.clone().measure());
        nearest
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody reads by nearness.
    pub(crate) fn want(&self) {
        self.state().asked = Some(self.0.env.now());
        self.0.wanted.notify_one();
    }

    /// What is known, by member.
    pub(crate) fn times(&self) -> BTreeMap<NodeId, Duration> {
        self.state().times.clone()
    }

    /// Members with what is known of them, the nearest first.
    pub(crate) fn order(&self) -> Vec<(NodeId, Duration)> {
        let mut order: Vec<_> = self.times().into_iter().collect();
        order.sort_by_key(|(id, time)| (*time, *id));
        order
    }

    async fn measure(self) {
        let Parts { env, consensus, wanted, .. } = &*self.0;
        loop {
            wanted.notified().await;
            while self.state().asked.is_some_and(|at| env.now().since(at) < WANTED) {
                let view = consensus.view();
                let others = view.voters.keys().chain(view.learners.keys());
                let others = others.copied().filter(|id| *id != env.node);
                let pings = others.map(|id| async move {
                    let begun = env.now();
                    let answered = consensus.ping(id, PATIENCE).await.is_some();
                    (id, answered.then(|| env.now().since(begun)))
                });
                let found = join_all(pings).await;
                self.state().note(&found);
                env.sleep(EVERY).await;
            }
        }
    }
}

impl State {
    fn note(&mut self, found: &[(NodeId, Option<Duration>)]) {
        let known = std::mem::take(&mut self.times);
        for (id, time) in found {
            let Some(time) = time else { continue };
            let smoothed = known.get(id).map_or(*time, |known| (*known * 7 + *time) / 8);
            self.times.insert(*id, smoothed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_smoothed_and_who_does_not_answer_is_forgotten() {
        let mut state = State::default();
        let millis = Duration::from_millis;
        state.note(&[(NodeId(2), Some(millis(8))), (NodeId(3), Some(millis(1)))]);
        state.note(&[(NodeId(2), Some(millis(16))), (NodeId(3), None)]);
        assert_eq!(state.times, BTreeMap::from([(NodeId(2), millis(9))]));
    }
}
