//! No vote right after a start: an earlier promise may still be in force.
//!
//! A voter that answered a leader's heartbeat has promised not to elect another one for a lease. A
//! restart forgets that promise, and two leaders could then serve reads at the same time. So a
//! restarted voter gives no vote and asks for none until one lease has passed, by the slowest clock
//! that the leader may have.

use std::time::Duration;

use common::env::{Env, Mono};
use common::mutate;

use crate::config::Config;
use crate::message::Cause;

/// The gate of one opening.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VoteGate {
    opens: Mono,
}

/// What a node knows of itself when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// It has never voted: it has promised nothing.
    NoVote,
    /// It is the only voter: there is nobody to promise anything to.
    SoleVoter,
    /// It may have promised a lease.
    Voter,
}

impl VoteGate {
    /// The gate of a node that starts now.
    pub(crate) fn new(env: &Env, config: &Config, past: Past) -> Self {
        Self { opens: env.now() + closed_for(config, past) }
    }

    /// Whether a candidate may get an answer now. A leader that hands over has given its lease up.
    pub(crate) fn answers(&self, now: Mono, cause: Cause) -> bool {
        let open = now >= self.opens || cause == Cause::Transfer;
        mutate!("votes_right_after_restart", open, true)
    }

    /// Returns when the node may ask for votes.
    pub(crate) async fn wait(&self, env: &Env) {
        mutate!("votes_right_after_restart", env.clock.sleep_until(self.opens).await, ());
    }
}

/// How long the gate is closed: a lease of the leader's clock, measured by this node's.
fn closed_for(config: &Config, past: Past) -> Duration {
    match past {
        Past::NoVote | Past::SoleVoter => Duration::ZERO,
        Past::Voter => {
            let drift = config.max_clock_drift;
            config.election_timeout_max.mul_f64((1.0 + drift) / (1.0 - drift))
        }
    }
}

#[cfg(test)]
mod tests {
    use common::ids::NodeId;

    use super::*;

    #[test]
    fn only_a_voter_with_a_past_waits_and_it_waits_longer_than_a_lease() {
        let config = Config::new(NodeId(1), "test");
        assert_eq!(closed_for(&config, Past::NoVote), Duration::ZERO);
        assert_eq!(closed_for(&config, Past::SoleVoter), Duration::ZERO);
        let wait = closed_for(&config, Past::Voter);
        let drift = config.max_clock_drift;
        // This node's clock is as fast, the leader's as slow as allowed.
        let real = wait.mul_f64(1.0 / (1.0 + drift));
        let rounding = Duration::from_micros(1);
        assert!(real.mul_f64(1.0 - drift) + rounding >= config.election_timeout_max);
    }

    #[test]
    fn a_transfer_passes_a_closed_gate() {
        let gate = VoteGate { opens: Mono(Duration::from_secs(10)) };
        let early = Mono(Duration::from_secs(9));
        assert!(!gate.answers(early, Cause::Silence));
        assert!(gate.answers(early, Cause::Transfer));
        assert!(gate.answers(Mono(Duration::from_secs(10)), Cause::Silence));
    }
}
