//! Who asks for votes, and when: the freshest first.
//!
//! Raft decides who may win; this agent decides who asks. Without it, any voter whose log is as good
//! as that of a majority can win, and a write that only the leader and one follower hold is lost
//! although that follower lives. So the voters ask each other for what they hold as soon as a leader
//! falls silent, and when the lease ends the one that holds most asks first:
//!
//! ```text
//! 0.6 lease of silence   every voter polls all others: last entry, priority, health
//! end of the lease       rank by entry, then priority, then id; a silent voter is waited for a little
//! + rank × 100 ms        ask for votes
//! ```
//!
//! Without a leader the next round begins at once, from the polls on. Each rank waits its turn again,
//! and a little longer by chance each time, so that two candidates do not split the votes for ever;
//! who has just given its vote to another waits for it.
//!
//! Who is behind the freshest that answered waits a lease longer, and openraft's own timer is off
//! meanwhile; after that it is on again, whatever this agent knows. A voter with priority 0, or with
//! a disk that hangs, only asks when nobody else has for five leases: it may hold the only log that
//! can win, so it is never barred for good.
//!
//! A leader moves the leadership by the same measures: away from a disk that hangs, and to a voter
//! of a better priority that has caught up.

use std::cmp::Reverse;
use std::time::Duration;

use common::env::{Env, Mono};
use common::ids::{LogPos, NodeId};
use common::{mutate, sometimes};
use futures::future::join_all;

use crate::config::Config;
use crate::failover;
use crate::raft::Consensus;

/// The part of a lease after which a silent leader is suspected.
const SUSPECT: f64 = 0.6;
/// How much later each rank asks, at least.
const STEP: Duration = Duration::from_millis(100);
/// The most steps that chance adds to a round.
const CHANCE: u32 = 4;
/// How long a voter that has not answered is waited for beyond the lease.
const WINDOW: Duration = Duration::from_millis(50);
/// How soon votes are asked for again.
const AGAIN: Duration = Duration::from_millis(50);
/// Leases without a leader after which anybody asks.
const LAST_RESORT: u32 = 5;
/// How often a leader looks for a better one.
const LOOK: Duration = Duration::from_millis(500);
/// How often leadership moves at most.
const MOVE: Duration = Duration::from_secs(10);

/// What a voter says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Who.
    pub(crate) id: NodeId,
    /// The last entry in its log.
    pub(crate) last: Option<LogPos>,
    /// How much it is wanted as leader; 0 for only when nobody else can.
    pub(crate) priority: u8,
    /// Whether its disk keeps up and it is past its vote gate.
    pub(crate) able: bool,
}

impl Standing {
    const fn eligible(&self) -> bool {
        self.able && self.priority > 0
    }
}

/// How long after the end of the lease a voter asks for votes, given what the others say.
fn delay(me: Standing, others: &[Standing], lease: Duration, step: Duration) -> Duration {
    let key = |s: &Standing| (Reverse(s.last), Reverse(s.priority), s.id);
    let better = |s: &&Standing| key(s) < key(&me);
    if !me.eligible() {
        let before = others.iter().filter(better).count();
        return lease * LAST_RESORT + step * before as u32;
    }
    let before = others.iter().filter(|s| s.eligible()).filter(better).count();
    let behind = others.iter().any(|s| s.eligible() && s.last > me.last);
    let wait = if behind { lease } else { Duration::ZERO };
    mutate!("nobody_prefers_the_freshest", wait + step * before as u32, Duration::ZERO)
}

/// The agent of one node.
struct Agent {
    env: Env,
    consensus: Consensus,
    config: Config,
}

/// Runs the agent as long as the node does.
pub(crate) async fn run(env: Env, consensus: Consensus, config: Config) {
    let agent = Agent { env, consensus, config };
    agent.consensus.gate_opens().await;
    let started = agent.env.now();
    let (mut led, mut silence) = (Led::default(), Silence::default());
    loop {
        if agent.consensus.leads().is_some() {
            agent.lead(&mut led).await;
            agent.env.sleep(LOOK).await;
            continue;
        }
        led = Led { moved: led.moved, ..Led::default() };
        agent.follow(started, &mut silence).await;
    }
}

/// What a leader remembers from look to look.
#[derive(Default)]
struct Led {
    /// Who was better at the last look.
    better: Option<NodeId>,
    /// When leadership was moved last.
    moved: Option<Mono>,
}

/// What a voter remembers of a silence.
#[derive(Default)]
struct Silence {
    /// When the leader was heard last before it.
    since: Mono,
    /// The rounds so far.
    rounds: u32,
}

impl Agent {
    /// Waits for silence, then for this node's turn, then asks.
    async fn follow(&self, started: Mono, silence: &mut Silence) {
        let lease = self.config.election_timeout_max;
        let heard = self.consensus.heard().map_or(started, |heard| heard.max(started));
        let suspect = heard + lease.mul_f64(SUSPECT);
        if self.env.now() < suspect || !self.votes() {
            let wait = suspect.since(self.env.now()).max(AGAIN);
            // Becoming the leader ends the wait, so that a leader looks after its disk at once.
            let mut leader = self.consensus.watch_leader();
            let me = Some(self.env.node);
            let _ = self.env.timeout(wait, leader.wait_for(|leader| *leader == me)).await;
            return;
        }
        if silence.since != heard {
            *silence = Silence { since: heard, rounds: 0 };
        }
        let end = heard + lease;
        let vote = self.consensus.voted_for();
        let others = self.poll(end).await;
        let silent = others.len() < self.consensus.other_voters().len();
        let window = if silent { WINDOW } else { Duration::ZERO };
        let step = STEP.max(self.config.heartbeat_interval * 2);
        let mut wait = delay(self.standing(), &others, lease, step);
        let begin = if silence.rounds == 0 {
            end + window
        } else {
            // The first of all keeps its lead.
            let chance = silence.rounds.min(CHANCE) * u32::from(wait > Duration::ZERO) + 1;
            wait += step.mul_f64(self.env.rng.below(1_000 * u64::from(chance)) as f64 / 1_000.0);
            // The last resort is counted from the silence on, not from this round.
            if wait >= lease * LAST_RESORT {
                wait = wait.saturating_sub(self.env.now().since(end));
            }
            self.env.now()
        };
        silence.rounds += 1;
        // Openraft's own timer must not be faster than the freshest; it never stays off for long.
        let fallback = wait < lease || self.env.now() >= end + lease * 2;
        self.consensus.allow_elections(fallback && self.consensus.priority() > 0);
        self.env.clock.sleep_until(begin + wait).await;
        let news = self.consensus.heard().is_some_and(|now| now > heard);
        if news || self.consensus.leads().is_some() {
            return;
        }
        // Somebody else has asked meanwhile, and got this node's vote.
        let other = |vote: &NodeId| *vote != self.env.node;
        if self.consensus.voted_for() != vote
            && self.consensus.voted_for().is_some_and(|(_, to)| other(&to))
        {
            self.env.sleep(step).await;
            return;
        }
        sometimes!("agent-asked-for-votes");
        self.consensus.ask_for_votes().await;
        self.env.sleep(AGAIN).await;
    }

    fn votes(&self) -> bool {
        self.consensus.members().voters.contains(&self.env.node)
            && !self.consensus.other_voters().is_empty()
    }

    fn standing(&self) -> Standing {
        self.consensus.standing()
    }

    /// What the other voters say, as far as they answer by `until`, or shortly.
    async fn poll(&self, until: Mono) -> Vec<Standing> {
        let left = until.since(self.env.now()).max(WINDOW);
        let asked = self.consensus.other_voters().into_iter();
        let asked = asked.map(|voter| self.consensus.poll(voter, left));
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Hands leadership over if this node's disk hangs, or if somebody is wanted more.
    async fn lead(&self, led: &mut Led) {
        let me = self.standing();
        let now = self.env.now();
        let rested = led.moved.is_none_or(|at| now.since(at) >= MOVE);
        let others = self.poll(now + LOOK).await;
        let to = if me.able {
            let better = |s: &&Standing| s.eligible() && s.priority > me.priority;
            let best = others.iter().filter(better).max_by_key(|s| (s.priority, Reverse(s.id)));
            let best = best.map(|s| s.id).filter(|id| self.caught_up(*id));
            // Twice in a row, so that it is no passing moment.
            std::mem::replace(&mut led.better, best).filter(|id| best == Some(*id) && rested)
        } else {
            let able = others.iter().filter(|s| s.able);
            able.max_by_key(|s| (s.priority, s.last, Reverse(s.id))).map(|s| s.id)
        };
        let Some(to) = to else { return };
        sometimes!("leadership-moved-by-the-agent");
        tracing::info!(%to, able = me.able, "handing leadership over");
        led.moved = Some(now);
        if let Err(error) = failover::transfer(&self.env, &self.consensus, Some(to)).await {
            tracing::info!(%error, "leadership was not handed over");
        }
    }

    /// Whether a voter holds everything that is committed.
    fn caught_up(&self, id: NodeId) -> bool {
        let held = self.consensus.matched().get(&id).map(|at| at.index);
        held >= self.consensus.view().committed.map(|at| at.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(600);

    fn voter(id: u64, term: u64, index: u64) -> Standing {
        let last = Some(LogPos { term, index });
        Standing { id: NodeId(id), last, priority: 1, able: true }
    }

    #[test]
    fn the_freshest_asks_first_then_priority_then_the_smallest_id() {
        let (a, b, c) = (voter(1, 3, 9), voter(2, 3, 9), voter(3, 2, 50));
        assert_eq!(delay(a, &[b, c], LEASE, STEP), Duration::ZERO);
        assert_eq!(delay(b, &[a, c], LEASE, STEP), STEP);
        assert_eq!(delay(c, &[a, b], LEASE, STEP), LEASE + STEP * 2, "an older term is behind");
        let wanted = Standing { priority: 5, ..b };
        assert_eq!(delay(wanted, &[a, c], LEASE, STEP), Duration::ZERO);
        assert_eq!(delay(a, &[wanted, c], LEASE, STEP), STEP);
        assert_eq!(delay(c, &[], LEASE, STEP), Duration::ZERO, "nobody else answers");
    }

    #[test]
    fn who_is_barred_asks_only_when_nobody_else_has_for_long() {
        let (fresh, stale) = (voter(1, 3, 9), voter(2, 3, 8));
        for barred in [Standing { priority: 0, ..fresh }, Standing { able: false, ..fresh }] {
            assert_eq!(delay(barred, &[stale], LEASE, STEP), LEASE * LAST_RESORT);
            assert_eq!(
                delay(stale, &[barred], LEASE, STEP),
                Duration::ZERO,
                "it does not wait for it"
            );
        }
    }
}
