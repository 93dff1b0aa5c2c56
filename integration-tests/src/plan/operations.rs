//! The operations of a plan: every client's own stream.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use common::env::{Rng, SplitMix64};
use serde::{Deserialize, Serialize};

use super::config::{ClusterConfig, exponential};
use crate::time::SimTime;
use crate::workload::{Action, Class, Key};

/// Who is meant, without knowing the strategy. The runner resolves a role when its fault fires or its
/// operation starts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The node with this number, from 0.
    Node(u8),
    /// Who orders writes of the key: the leader, the coordinator that owns it, or the site that
    /// last wrote it.
    Authority(Key),
    /// The node that follows the key's authority by so many places, from 1, in the order of numbers.
    Other(Key, u8),
    /// The messages from the first to the second.
    Link(Box<[Role; 2]>),
    /// Less than half of the nodes, the given one among them.
    Minority(Box<Role>),
    /// All nodes.
    All,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(n) => write!(f, "node {n}"),
            Self::Authority(key) => write!(f, "authority of {key}"),
            Self::Other(key, n) => write!(f, "authority of {key} + {n}"),
            Self::Link(ends) => write!(f, "{} -> {}", ends[0], ends[1]),
            Self::Minority(with) => write!(f, "minority with {with}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// One operation and when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedOp {
    /// When the client asks.
    pub at: SimTime,
    /// The client.
    pub client: u8,
    /// The node that the client turns to.
    pub target: Role,
    /// The guarantees it asks for.
    pub class: Class,
    /// What it asks.
    pub action: Action,
}

/// Clients with this number and above read each replica at the end: node 0 has the first.
pub(crate) const FINAL_READER: u8 = 200;

/// Operations of every client until the heal, then the final reads.
///
/// The final reads ask each node for everything: registers and counters as strong reads, so that
/// they can be judged with the rest; sets as what that one replica says, to see each copy.
pub(super) fn draw(root: &SplitMix64, config: &ClusterConfig) -> Vec<TimedOp> {
    let mut ops = Vec::new();
    let mut final_reads = BTreeSet::new();
    for client in 0..config.clients {
        let Some(&workload) =
            config.workloads.get(usize::from(client) % config.workloads.len().max(1))
        else {
            break;
        };
        let rng = root.stream(&format!("ops-{client}"));
        let classes = root.stream(&format!("classes-{client}"));
        let mut generator = workload.generator(client, config.clients);
        let mut at = SimTime::ZERO;
        loop {
            at = at + exponential(rng.as_ref(), config.op_gap);
            // Drawn before the phase is looked at, so that a longer run begins with the same ones.
            let action = generator.next(rng.as_ref());
            let target = Role::Node(rng.below(u64::from(config.nodes)) as u8);
            if at >= config.phases.heal + config.quiescence / 2 {
                break;
            }
            // Of the reads, half as many are bounded.
            let drawn = classes.below(100);
            let weak = drawn < u64::from(config.fast);
            let class = match (client < config.sessions, weak, action.is_read()) {
                (true, ..) => Class::Session,
                (false, true, false) => Class::Fast,
                (false, true, true) if drawn % 2 == 0 => Class::Bounded,
                (false, ..) => config.class,
            };
            ops.push(TimedOp { at, client, target, class, action });
        }
        final_reads.extend(generator.final_reads().into_iter().map(|a| a.key()));
    }
    let start = config.phases.heal + config.quiescence;
    for node in 0..config.nodes {
        for (i, &key) in final_reads.iter().enumerate() {
            let at = start + Duration::from_millis(20) * i as u32;
            let (class, action) = match key.kind {
                crate::workload::Kind::Set => (Class::Fast, Action::ReadSet { set: key }),
                _ => (config.class, Action::Read { key }),
            };
            let client = FINAL_READER.saturating_add(node);
            ops.push(TimedOp { at, client, target: Role::Node(node), class, action });
        }
    }
    ops.sort_by_key(|op| (op.at, op.client));
    ops
}
