//! Who is away, who is slow: an accrual failure detector fed by the data path.
//!
//! Every reply of a peer is evidence that it lives; probes go only over idle links. How unlikely
//! the present silence is, by the silences seen before, is `phi` (Hayashibara et al., "The phi
//! accrual failure detector", SRDS 2004): phi 8 means that a living peer is so silent once in 10^8.
//! Before a peer is `Down`, up to three others are asked to reach it (SWIM, DSN 2002), and a node
//! whose own timers run late discounts what it sees by as much (Lifeguard, 2017).
//!
//! Neither state ever changes the layout. Pure: time comes in with every call.

mod peer;

use std::collections::BTreeMap;
use std::time::Duration;

use common::env::Mono;
use common::ids::NodeId;

use peer::Peer;

/// When a silence means what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectorConfig {
    /// A link without an answer for this long gets a probe. Default 200 ms, 20 ms to 10 s.
    pub probe_every: Duration,
    /// The smallest deviation of silences that is believed. Larger: fewer false alarms, later
    /// detection. Default 50 ms.
    pub least_deviation: Duration,
    /// How long the peers that are asked may take. Default 300 ms.
    pub indirect_within: Duration,
    /// A peer is slow when its latency is beyond the median peer's by this factor. Default 4.
    pub slow_factor: u32,
    /// And by at least this much, so that fast links are not judged by their noise. Default 5 ms.
    pub slow_margin: Duration,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self {
            probe_every: Duration::from_millis(200),
            least_deviation: Duration::from_millis(50),
            indirect_within: Duration::from_millis(300),
            slow_factor: 4,
            slow_margin: Duration::from_millis(5),
        }
    }
}

/// What is thought of a peer, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It answers.
    #[default]
    Alive,
    /// It answers, much later than others: ask it last, and hedge.
    Slow,
    /// It was reset, refused, or is silent beyond phi 3: ask it last, and hedge.
    Suspect,
    /// It is silent beyond phi 8 and nobody who was asked reaches it: fail fast, hint.
    Down,
}

/// What was seen of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It answered a call that began then; any answer counts, a refusal of its too.
    Answered {
        /// When the call began.
        began: Mono,
    },
    /// A call that began then got no answer: reset, refused by the network, or past its deadline.
    Failed {
        /// When the call began.
        began: Mono,
    },
    /// Another node reached it when it was asked to.
    ReachedByOther,
    /// Another node was asked and did not reach it.
    MissedByOther,
}

/// What a step asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a probe to the peer.
    Probe(NodeId),
    /// Ask other nodes to probe the peer and tell.
    AskOthers {
        /// The silent peer.
        peer: NodeId,
        /// Who to ask, at most three.
        via: Vec<NodeId>,
    },
    /// The standing of a peer has changed.
    Changed(NodeId, Standing),
}

/// Phi beyond which a peer is `Suspect`.
const SUSPECT: f64 = 3.0;
/// Phi beyond which others are asked.
const DOWN: f64 = 8.0;
/// How many others are asked.
const ASKED: usize = 3;

/// The detector of one node.
#[derive(Clone, Debug)]
pub struct Detector {
    config: DetectorConfig,
    peers: BTreeMap<NodeId, Peer>,
    last_step: Option<Mono>,
}

impl Detector {
    /// A detector that knows nobody.
    pub fn new(config: DetectorConfig) -> Self {
        Self { config, peers: BTreeMap::new(), last_step: None }
    }

    /// Watches exactly these peers; new ones count as alive from now.
    pub fn watch(&mut self, peers: &[NodeId], now: Mono) {
        self.peers.retain(|node, _| peers.contains(node));
        for node in peers {
            self.peers.entry(*node).or_insert_with(|| Peer::new(now));
        }
    }

    /// Takes evidence in. What is said of a stranger is dropped.
    pub fn observe(&mut self, peer: NodeId, evidence: Evidence, now: Mono) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.observe(evidence, now, &self.config);
        }
    }

    /// How unlikely the peer's silence is, as a power of ten. 0 for a stranger.
    pub fn phi(&self, peer: NodeId, now: Mono) -> f64 {
        self.peers.get(&peer).map_or(0.0, |peer| peer.phi(now, &self.config))
    }

    /// What is thought of the peer, as of the last step or evidence. A stranger is alive.
    pub fn standing(&self, peer: NodeId) -> Standing {
        self.peers.get(&peer).map_or(Standing::Alive, |peer| peer.standing)
    }

    /// The usual time of an answer, once there was one.
    pub fn latency(&self, peer: NodeId) -> Option<Duration> {
        self.peers.get(&peer).and_then(Peer::latency)
    }

    /// Candidates, best first: by standing, then latency, then their given order.
    pub fn rank(&self, candidates: &mut [NodeId]) {
        candidates.sort_by_key(|node| (self.standing(*node), self.latency(*node)));
    }

    /// Looks at the clock: call it every quarter of `probe_every`. What has to be done now.
    pub fn step(&mut self, now: Mono) -> Vec<Action> {
        self.discount_own_delay(now);
        let median = self.median_latency();
        let alive: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.standing <= Standing::Slow)
            .map(|(node, _)| *node)
            .collect();
        let mut actions = Vec::new();
        for (node, peer) in &mut self.peers {
            if peer.probe_due(now, &self.config) {
                actions.push(Action::Probe(*node));
            }
            let phi = peer.phi(now, &self.config);
            if phi > DOWN && !peer.asked() {
                let others = alive.iter().filter(|other| *other != node);
                // Not always the same three: begin behind the peer's own id.
                let at = others.clone().position(|other| other > node).unwrap_or(0);
                let all: Vec<NodeId> = others.copied().collect();
                let via: Vec<NodeId> =
                    all.iter().cycle().skip(at).take(ASKED.min(all.len())).copied().collect();
                peer.ask(now, via.len());
                if !via.is_empty() {
                    actions.push(Action::AskOthers { peer: *node, via });
                }
            }
            let standing = peer.judge(now, phi, SUSPECT, median, &self.config);
            if standing != peer.standing {
                peer.standing = standing;
                actions.push(Action::Changed(*node, standing));
            }
        }
        actions
    }

    /// When this node's own steps come late, it was away itself, and so were the answers.
    fn discount_own_delay(&mut self, now: Mono) {
        let usual = self.config.probe_every / 4;
        if let Some(last) = self.last_step.replace(now) {
            let late = now.since(last).saturating_sub(usual * 2);
            if !late.is_zero() {
                for peer in self.peers.values_mut() {
                    peer.forgive(late, now);
                }
            }
        }
    }

    fn median_latency(&self) -> Option<Duration> {
        let mut all: Vec<Duration> = self.peers.values().filter_map(Peer::latency).collect();
        all.sort_unstable();
        // The lower one of two: with few peers the slow one must not be its own measure.
        all.get(all.len().checked_sub(1)? / 2).copied()
    }
}

#[cfg(test)]
mod tests;
