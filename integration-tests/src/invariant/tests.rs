//! Each invariant notices what breaks it, and nothing else.

use bytes::Bytes;
use leader::message::Cause;

use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

const fn at(term: u64, index: u64) -> LogPos {
    LogPos { term, index }
}

fn vote(term: u64, node: NodeId) -> Vote {
    Vote { term, node, established: true }
}

/// An entry as it travels.
fn record(at: LogPos, body: u8) -> Bytes {
    let mut bytes = vec![1, 0, 0, 0, 0];
    bytes.extend_from_slice(&at.term.to_le_bytes());
    bytes.extend_from_slice(&at.index.to_le_bytes());
    bytes.extend_from_slice(&[1, body]);
    bytes.into()
}

fn append(
    vote: Vote,
    previous: Option<LogPos>,
    committed: Option<LogPos>,
    entries: Vec<Bytes>,
) -> Request {
    Request::Append { stream: Some(1), vote, previous, committed, entries }
}

fn look(node: NodeId, committed: LogPos, applied: LogPos, digest: u64) -> Look {
    Look { node, committed: Some(committed), applied, digest }
}

/// The names of those that a story breaks.
fn broken(story: impl Fn(&mut Invariants) -> Vec<Broken>) -> Vec<&'static str> {
    story(&mut Invariants::default()).into_iter().map(|b| b.judge).collect()
}

#[test]
fn a_quiet_life_breaks_nothing() {
    let broken = broken(|all| {
        let mut broken = Vec::new();
        let first = append(vote(1, A), None, None, vec![record(at(1, 1), 0), record(at(1, 2), 7)]);
        let second = append(vote(1, A), Some(at(1, 2)), Some(at(1, 2)), Vec::new());
        // The next leader has what was committed, and replaces nothing of it.
        let third = append(vote(2, B), Some(at(1, 2)), Some(at(1, 2)), vec![record(at(2, 3), 0)]);
        for (node, request) in [(A, &first), (A, &first), (A, &second), (B, &third)] {
            broken.extend(all.hear(node, Said::Asks(request)));
        }
        broken.extend(all.hear(A, Said::Acknowledges(at(1, 2))));
        broken.extend(all.look(&look(A, at(1, 2), at(1, 2), 5)));
        broken.extend(all.look(&look(B, at(1, 1), at(1, 2), 5)));
        all.died(B);
        broken.extend(all.look(&look(B, at(1, 1), at(1, 1), 4)));
        broken
    });
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn two_leaders_of_one_term_are_noticed_once() {
    let broken = broken(|all| {
        let mut broken = Vec::new();
        for node in [A, B, A, B] {
            let append = append(vote(3, node), None, None, Vec::new());
            broken.extend(all.hear(node, Said::Asks(&append)));
        }
        broken
    });
    assert_eq!(broken, ["one_leader_per_term"]);
}

#[test]
fn two_votes_in_one_term_are_noticed_also_over_a_restart() {
    let broken = broken(|all| {
        let candidacy = |node| Candidacy { vote: vote(4, node), last: None, cause: Cause::Silence };
        let yes = Reply::Voted { vote: vote(4, A), last: None, granted: true };
        let voter = NodeId(3);
        let mut broken = all.hear(voter, Said::Answers(Asked::Vote(candidacy(A)), &yes));
        broken.extend(all.hear(voter, Said::Answers(Asked::Vote(candidacy(A)), &yes)));
        all.died(voter);
        broken.extend(all.hear(voter, Said::Answers(Asked::Vote(candidacy(B)), &yes)));
        broken
    });
    assert_eq!(broken, ["one_vote_per_term"]);
}

#[test]
fn one_position_with_two_contents_or_two_predecessors_is_noticed() {
    for (previous, body) in [(Some(at(1, 1)), 8), (Some(at(2, 1)), 7)] {
        let broken = broken(|all| {
            let one = append(vote(3, A), Some(at(1, 1)), None, vec![record(at(3, 2), 7)]);
            let other = append(vote(3, A), previous, None, vec![record(at(3, 2), body)]);
            let mut broken = all.hear(A, Said::Asks(&one));
            broken.extend(all.hear(A, Said::Asks(&other)));
            broken
        });
        assert_eq!(broken, ["log_matching"]);
    }
}

#[test]
fn a_later_leader_without_a_committed_entry_is_noticed_an_earlier_one_is_not() {
    let broken_in = |term: u64| {
        broken(|all| {
            let one = append(vote(3, A), Some(at(3, 2)), Some(at(3, 2)), Vec::new());
            let entries = vec![record(at(term, 2), 7)];
            let other = append(vote(term, B), Some(at(1, 1)), None, entries);
            let mut broken = all.hear(A, Said::Asks(&one));
            broken.extend(all.hear(B, Said::Asks(&other)));
            broken
        })
    };
    assert_eq!(broken_in(4), ["leader_completeness"]);
    assert!(broken_in(2).is_empty(), "a deposed leader may still send what nobody takes");
}

#[test]
fn two_committed_entries_at_one_index_are_noticed() {
    let broken = broken(|all| {
        let mut broken = all.hear(A, Said::Acknowledges(at(1, 5)));
        broken.extend(all.look(&look(B, at(2, 5), at(2, 5), 1)));
        broken
    });
    assert_eq!(broken, ["committed_immutable"]);
}

#[test]
fn a_term_that_goes_back_is_noticed_also_over_a_restart() {
    let broken = broken(|all| {
        let candidacy = |term| Candidacy { vote: vote(term, A), last: None, cause: Cause::Silence };
        let mut broken = all.hear(A, Said::Asks(&Request::Vote(candidacy(7))));
        all.died(A);
        broken.extend(all.hear(A, Said::Asks(&Request::Vote(candidacy(6)))));
        broken
    });
    assert_eq!(broken, ["nothing_goes_back"]);
}

#[test]
fn a_position_that_goes_back_is_noticed_while_the_process_lives() {
    let applied = broken(|all| {
        let mut broken = all.look(&look(A, at(1, 4), at(1, 3), 3));
        broken.extend(all.look(&look(A, at(1, 4), at(1, 2), 2)));
        broken
    });
    assert_eq!(applied, ["nothing_goes_back"]);
}

#[test]
fn what_is_applied_and_never_committed_is_noticed() {
    let story = |later: LogPos| {
        broken(|all| {
            let mut broken = all.look(&look(A, at(1, 4), at(1, 6), 1));
            broken.extend(all.look(&look(A, later, at(1, 6), 1)));
            broken
        })
    };
    assert_eq!(story(at(1, 5)), ["applied_within_committed"]);
    assert!(story(at(1, 6)).is_empty());
}

#[test]
fn different_states_at_one_position_are_noticed() {
    let broken = broken(|all| {
        let mut broken = all.look(&look(A, at(1, 4), at(1, 4), 1));
        broken.extend(all.look(&look(A, at(1, 5), at(1, 5), 2)));
        broken.extend(all.look(&look(B, at(1, 4), at(1, 4), 3)));
        broken
    });
    assert_eq!(broken, ["equal_position_equal_state"]);
}
