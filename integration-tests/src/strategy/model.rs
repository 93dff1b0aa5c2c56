//! The model: one map that all nodes share, linearizable and durable by construction, unless broken
//! on purpose.
//!
//! It judges the judge. A correct model must pass every seed, and every bug must be noticed; what
//! goes wrong here is the harness's own fault.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::env::Env;
use common::transport::Class as Lane;
use futures::future::BoxFuture;

use super::{Place, Strategy};
use crate::history::{Outcome, Reply};
use crate::plan::ClusterConfig;
use crate::workload::{Action, Class, Expect, Key, Seen};

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Nothing.
    None,
    /// Forgets every 50th acknowledged write.
    LosesWrites,
    /// Answers every 20th read from before the last write.
    ReadsOld,
    /// Says of some writes that they were not applied.
    RefusesAndApplies,
    /// Applies every 50th increment twice.
    CountsTwice,
    /// Answers nothing after a while.
    StopsForEver,
    /// Panics when it is opened again.
    PanicsAtRestart,
    /// Refuses to be opened again.
    RefusesToRestart,
    /// Stops five seconds after its start.
    StopsByItself,
}

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<Key, i64>,
    before: BTreeMap<Key, i64>,
    elements: BTreeMap<Key, BTreeSet<i64>>,
    count: u64,
}

/// The strategy.
#[derive(Debug)]
pub struct Model {
    bug: Bug,
    state: Arc<Mutex<State>>,
}

impl Model {
    /// A model with a bug, or with none.
    pub fn new(bug: Bug) -> Self {
        Self { bug, state: Arc::default() }
    }
}

/// One of its nodes.
#[derive(Clone, Debug)]
pub struct ModelNode {
    env: Env,
    peers: u8,
}

impl Strategy for Model {
    type Node = ModelNode;

    fn name(&self) -> &'static str {
        "model"
    }

    fn open(
        &self,
        env: Env,
        config: &ClusterConfig,
        _: Place,
    ) -> BoxFuture<'static, Result<ModelNode, String>> {
        let (bug, peers) = (self.bug, config.nodes);
        Box::pin(async move {
            env.sleep(Duration::from_millis(env.rng.below(20))).await;
            if env.incarnation.0 > 1 {
                assert_ne!(bug, Bug::PanicsAtRestart, "planted");
                if bug == Bug::RefusesToRestart {
                    return Err("planted".to_owned());
                }
            }
            Ok(ModelNode { env, peers })
        })
    }

    fn perform(
        &self,
        node: &ModelNode,
        _: Class,
        action: Action,
        _: Option<String>,
        _: Duration,
    ) -> BoxFuture<'static, Reply> {
        let (bug, state, node) = (self.bug, self.state.clone(), node.clone());
        Box::pin(async move {
            // Some traffic, whose fate is of no interest. Whom it goes to is drawn from tokio's own
            // generator, as `select!` in a product draws: runs repeat only where that is seeded.
            let first = tokio::select! {
                () = std::future::ready(()) => 0,
                () = std::future::ready(()) => 1,
            };
            let peer = Place((first + node.env.rng.below(u64::from(node.peers))) as u8).id();
            let call =
                node.env.transport.call(peer, Lane::Data, Bytes::new(), Duration::from_millis(9));
            let _ = call.await;
            let reply = state.lock().unwrap_or_else(PoisonError::into_inner).apply(bug, action);
            node.env.sleep(Duration::from_millis(1)).await;
            reply
        })
    }

    fn authority(&self, nodes: &BTreeMap<Place, ModelNode>, _: Key) -> Option<Place> {
        nodes.keys().next().copied()
    }

    fn failure(&self, node: &ModelNode) -> Option<String> {
        let stopped =
            self.bug == Bug::StopsByItself && node.env.now().0 > Duration::from_secs(3605);
        stopped.then(|| "planted".to_owned())
    }
}

impl State {
    fn apply(&mut self, bug: Bug, action: Action) -> Reply {
        self.count += 1;
        let every = |n: u64| self.count.is_multiple_of(n);
        if bug == Bug::StopsForEver && self.count > 300 {
            return Reply::new(Outcome::NotApplied);
        }
        let skip = bug == Bug::LosesWrites && every(50);
        match action {
            Action::Read { key } => {
                let from =
                    if bug == Bug::ReadsOld && every(20) { &self.before } else { &self.values };
                Reply::seen(Seen::Value(from.get(&key).copied()))
            }
            Action::Write { key, value } => {
                if let Some(old) = self.values.insert(key, value) {
                    self.before.insert(key, old);
                }
                let refused = bug == Bug::RefusesAndApplies && self.count.is_multiple_of(20);
                Reply::new(if refused { Outcome::NotApplied } else { Outcome::Applied })
            }
            Action::CompareAndSet { key, expect, value } => {
                let Expect::Value(expected) = expect else {
                    unreachable!("filled in by the client's memory")
                };
                let found = self.values.get(&key).copied() == expected;
                if found {
                    self.values.insert(key, value);
                }
                Reply::seen(Seen::Swapped(found))
            }
            Action::Increment { key, by } => {
                let twice = bug == Bug::CountsTwice && every(50);
                let sum = self.values.entry(key).or_default();
                *sum += if twice { 2 * by } else { by };
                Reply::seen(Seen::Value(Some(*sum)))
            }
            Action::Add { set, element } => {
                if !skip {
                    self.elements.entry(set).or_default().insert(element);
                }
                Reply::new(Outcome::Applied)
            }
            Action::ReadSet { set } => {
                let all = self.elements.get(&set).into_iter().flatten().copied().collect();
                Reply::seen(Seen::Elements(all))
            }
        }
    }
}
