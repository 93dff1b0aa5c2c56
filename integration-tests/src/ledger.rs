//! The durability ledger: what nodes have said is durable, and whether it is.
//!
//! Most broken promises of durability are never seen by a client: luck repairs them before anybody
//! looks. So every message and every acknowledgement that says "this is on my disk" is written down
//! when it leaves, and whenever a machine loses its power, copies of what the disks hold for certain
//! are opened by the product's own recovery. What was said and is not there is a violation at that
//! moment.
//!
//! - A vote that was granted: the disk holds it, or a later one.
//! - Entries that were confirmed to a leader: the disk holds the last of them, or a state that
//!   contains it; unless the node has followed a later leader since, who may have replaced them.
//! - What a leader calls committed, and what a client was told is done: a majority of disks holds it.

use std::collections::BTreeMap;

use common::ids::{LogPos, NodeId};
use leader::message::{Appended, Reply, Request, Vote};

use crate::invariant::{Asked, Said};

/// What nodes have said so far.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    votes: BTreeMap<NodeId, Vote>,
    /// Per node, the last term in which it confirmed entries, and the furthest of them.
    entries: BTreeMap<NodeId, (u64, LogPos)>,
    committed: Option<LogPos>,
}

/// What recovery finds on a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The vote.
    pub vote: Option<Vote>,
    /// The last entry that is part of the state.
    pub applied: Option<LogPos>,
    /// The terms of the entries in the log, by index.
    pub entries: BTreeMap<u64, u64>,
}

impl Found {
    /// Whether the entry is there, or in the state.
    fn holds(&self, at: LogPos) -> bool {
        self.applied.is_some_and(|applied| applied.index >= at.index)
            || self.entries.get(&at.index) == Some(&at.term)
    }

    fn term(&self) -> u64 {
        self.vote.map_or(0, |vote| vote.term)
    }
}

impl Ledger {
    /// Writes down what a node says.
    pub fn hear(&mut self, node: NodeId, said: Said<'_>) {
        match said {
            Said::Answers(Asked::Vote(candidacy), Reply::Voted { granted: true, .. }) => {
                let vote = candidacy.vote;
                let last = self.votes.entry(node).or_insert(vote);
                if vote.term >= last.term {
                    *last = vote;
                }
            }
            Said::Answers(
                Asked::Append(vote),
                Reply::Appended { outcome: Appended::Durable(Some(upto)), .. },
            ) => {
                let last = self.entries.entry(node).or_insert((vote.term, *upto));
                if (vote.term, *upto) > *last {
                    *last = (vote.term, *upto);
                }
            }
            Said::Asks(Request::Append { committed, .. }) => {
                self.committed = self.committed.max(*committed);
            }
            Said::Acknowledges(at) => self.committed = self.committed.max(Some(at)),
            _ => {}
        }
    }

    /// How many claims there are.
    pub fn claims(&self) -> u64 {
        (self.votes.len() + self.entries.len()) as u64 + u64::from(self.committed.is_some())
    }

    /// What is missing on the disks of all voters. A disk that recovery refuses holds nothing.
    pub fn missing(&self, disks: &BTreeMap<NodeId, Result<Found, String>>) -> Vec<String> {
        let mut missing = Vec::new();
        for (node, found) in disks {
            match found {
                Ok(found) => missing.extend(self.missing_on(*node, found)),
                Err(why) => missing.push(format!("the disk of node {node} is refused: {why}")),
            }
        }
        if let Some(at) = self.committed {
            let holds = |found: &&Result<Found, String>| found.as_ref().is_ok_and(|f| f.holds(at));
            let holders = disks.values().filter(holds).count();
            if holders <= disks.len() / 2 {
                missing.push(format!(
                    "index {} of term {} was called committed, and is on {holders} of {} disks",
                    at.index,
                    at.term,
                    disks.len()
                ));
            }
        }
        missing
    }

    fn missing_on(&self, node: NodeId, found: &Found) -> Vec<String> {
        let mut missing = Vec::new();
        if let Some(vote) = self.votes.get(&node) {
            // The leader that a majority made of another candidate takes the vote's place.
            let kept = found.vote.is_some_and(|kept| {
                let same_term = kept.term == vote.term;
                kept.term > vote.term || (same_term && (kept.node == vote.node || kept.established))
            });
            if !kept {
                missing.push(format!(
                    "node {node} voted for node {} in term {}, and its disk says {:?}",
                    vote.node, vote.term, found.vote
                ));
            }
        }
        if let Some((term, upto)) = self.entries.get(&node)
            && !found.holds(*upto)
            && found.term() <= *term
        {
            let last = found.entries.last_key_value();
            missing.push(format!(
                "node {node} confirmed index {} of term {} to the leader of term {term}, and its \
                 disk ends with {last:?}, in the state {:?}",
                upto.index, upto.term, found.applied
            ));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use leader::message::{Candidacy, Cause};

    use super::*;

    const A: NodeId = NodeId(1);

    const fn at(term: u64, index: u64) -> LogPos {
        LogPos { term, index }
    }

    const fn vote(term: u64, node: u64) -> Vote {
        Vote { term, node: NodeId(node), established: false }
    }

    fn confirms(term: u64, upto: LogPos) -> Ledger {
        let mut ledger = Ledger::default();
        let reply = Reply::Appended { outcome: Appended::Durable(Some(upto)), applied: None };
        ledger.hear(A, Said::Answers(Asked::Append(vote(term, 2)), &reply));
        ledger
    }

    fn disks(found: &[Found]) -> BTreeMap<NodeId, Result<Found, String>> {
        (1..).map(NodeId).zip(found.iter().cloned().map(Ok)).collect()
    }

    fn log(term: u64, entries: &[LogPos]) -> Found {
        let entries = entries.iter().map(|at| (at.index, at.term)).collect();
        Found { vote: Some(vote(term, 2)), applied: None, entries }
    }

    #[test]
    fn a_vote_that_was_given_must_be_there_or_a_later_one() {
        let mut ledger = Ledger::default();
        let candidacy = Candidacy { vote: vote(5, 2), last: None, cause: Cause::Silence };
        let yes = Reply::Voted { vote: vote(5, 2), last: None, granted: true };
        let no = Reply::Voted { vote: vote(5, 2), last: None, granted: false };
        ledger.hear(A, Said::Answers(Asked::Vote(candidacy), &no));
        assert_eq!(ledger.claims(), 0);
        ledger.hear(A, Said::Answers(Asked::Vote(candidacy), &yes));
        let missing = |kept: Option<Vote>| {
            ledger.missing(&disks(&[Found { vote: kept, ..Found::default() }])).len()
        };
        assert_eq!(missing(Some(vote(5, 2))), 0);
        assert_eq!(missing(Some(vote(6, 3))), 0);
        assert_eq!(missing(Some(vote(5, 3))), 1, "another candidate of that term");
        let leader = Vote { established: true, ..vote(5, 3) };
        assert_eq!(missing(Some(leader)), 0, "the leader of that term");
        assert_eq!(missing(Some(vote(4, 2))), 1);
        assert_eq!(missing(None), 1);
    }

    #[test]
    fn confirmed_entries_must_be_there_unless_a_later_leader_replaced_them() {
        let ledger = confirms(3, at(2, 7));
        let missing = |found: Found| ledger.missing(&disks(&[found])).len();
        assert_eq!(missing(log(3, &[at(1, 6), at(2, 7)])), 0);
        assert_eq!(missing(log(3, &[at(1, 6)])), 1);
        assert_eq!(missing(log(3, &[at(1, 6), at(1, 7)])), 1, "another entry in its place");
        assert_eq!(missing(log(4, &[at(1, 6)])), 0, "superseded");
        let purged = Found { applied: Some(at(2, 9)), ..log(3, &[]) };
        assert_eq!(missing(purged), 0, "part of the state");
    }

    #[test]
    fn what_is_committed_must_be_on_a_majority_of_disks() {
        let mut ledger = Ledger::default();
        ledger.hear(A, Said::Acknowledges(at(1, 2)));
        ledger.hear(A, Said::Acknowledges(at(1, 1)));
        let (with, without) = (log(1, &[at(1, 1), at(1, 2)]), log(1, &[at(1, 1)]));
        let missing = |disks_found: &[Found]| ledger.missing(&disks(disks_found)).len();
        assert_eq!(missing(&[with.clone(), with.clone(), without.clone()]), 0);
        assert_eq!(missing(&[with.clone(), without.clone(), without.clone()]), 1);
        let mut some = disks(&[with.clone(), with]);
        some.insert(NodeId(3), Err("damaged".to_owned()));
        assert_eq!(ledger.missing(&some).len(), 1, "a refused disk is a finding of its own");
    }
}
