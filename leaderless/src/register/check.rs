//! Every order of two clients' changes over three replicas, with lost and late messages:
//! linearizable, and not so with a planted bug.
//!
//! A state's `recent` is its whole history here. The register is linearizable if the histories of
//! all answers are prefixes of each other, and an answer contains every change that was answered
//! before its client began. A late reply is the same as late messages after it, so replies are
//! taken at once; a lost one is a message that is delivered to nobody.

use std::collections::BTreeSet;
use std::hash::Hash;

use bytes::Bytes;
use common::ids::NodeId;

use super::{
    Acceptor, Ballot, Change, Decision, Outcome, Reply, Request, RequestId, Round, State, Step,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planted {
    Nothing,
    AcceptsBelowItsPromise,
    ForgetsItsPromises,
    TakesAnOldState,
    NewSetAlone,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Client {
    change: Change,
    /// Histories answered before it began.
    before: Vec<RequestId>,
    round: Option<Round>,
    attempts: u8,
    answer: Option<Outcome>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct World {
    acceptors: Vec<Acceptor>,
    clients: Vec<Client>,
    under_way: BTreeSet<(NodeId, usize, Request)>,
    /// All answers' histories, in any order.
    answered: Vec<Vec<RequestId>>,
}

struct Scope {
    changes: Vec<Change>,
    /// Per client its view of the owner sets.
    views: Vec<Vec<Vec<NodeId>>>,
    acceptors: usize,
    /// How often each client tries.
    attempts: Vec<u8>,
    planted: Planted,
}

fn ids(of: &[u64]) -> Vec<NodeId> {
    of.iter().copied().map(NodeId).collect()
}

impl World {
    fn begin(&mut self, at: usize, scope: &Scope) {
        let mut done: Vec<RequestId> = self.answered.iter().flatten().copied().collect();
        done.sort_unstable();
        done.dedup();
        let client = &mut self.clients[at];
        if client.attempts == 0 {
            client.before = done;
        }
        client.attempts += 1;
        let ballot = Ballot { round: u64::from(client.attempts), node: NodeId(at as u64) };
        let request = RequestId(at as u128);
        let (round, prepare) =
            Round::new(ballot, scope.views[at].clone(), request, client.change.clone());
        let nodes = round.nodes();
        client.round = Some(round);
        self.send(nodes, at, prepare);
    }

    fn send(&mut self, to: BTreeSet<NodeId>, from: usize, request: Request) {
        self.under_way.extend(to.into_iter().map(|node| (node, from, request.clone())));
    }

    fn deliver(&mut self, message: &(NodeId, usize, Request), scope: &Scope) -> Result<(), String> {
        self.under_way.remove(message);
        let (node, from, request) = message.clone();
        let acceptor = &mut self.acceptors[node.0 as usize - 1];
        match (scope.planted, &request) {
            (Planted::AcceptsBelowItsPromise, Request::Accept(..)) => acceptor.promised = None,
            (Planted::ForgetsItsPromises, _) if node == NodeId(1) => {
                *acceptor = Acceptor::default();
            }
            _ => {}
        }
        let mut reply = acceptor.answer(request);
        if let (Planted::TakesAnOldState, Reply::Promised(_, accepted)) =
            (scope.planted, &mut reply)
        {
            *accepted = None;
        }
        let client = &mut self.clients[from];
        let Some(round) = &mut client.round else { return Ok(()) };
        match round.reply(node, reply) {
            Step::Wait | Step::Again { .. } => Ok(()),
            Step::Send(request) => {
                let nodes = round.nodes();
                self.send(nodes, from, request);
                Ok(())
            }
            Step::Done(outcome) => {
                client.round = None;
                client.answer = Some(outcome.clone());
                let history = outcome.state.recent.clone();
                if client.before.iter().any(|id| !history.contains(id)) {
                    return Err(format!(
                        "client {from} misses what was answered before: {history:?}"
                    ));
                }
                let own = history.contains(&RequestId(from as u128));
                if own != (outcome.decision != Decision::Kept) {
                    return Err(format!("client {from} was told {outcome:?}"));
                }
                self.answered.push(history);
                self.answered.sort();
                self.answered.dedup();
                let chain = self.answered.windows(2).all(|pair| pair[1].starts_with(&pair[0]));
                chain.then_some(()).ok_or_else(|| format!("two histories: {:?}", self.answered))
            }
        }
    }
}

fn explore(scope: &Scope) -> Result<usize, String> {
    let client = |change: &Change| Client {
        change: change.clone(),
        before: Vec::new(),
        round: None,
        attempts: 0,
        answer: None,
    };
    let first = World {
        acceptors: vec![Acceptor::default(); scope.acceptors],
        clients: scope.changes.iter().map(client).collect(),
        under_way: BTreeSet::new(),
        answered: Vec::new(),
    };
    let print = |world: &World| {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        world.hash(&mut hasher);
        hasher.digest128()
    };
    let mut seen = BTreeSet::from([print(&first)]);
    let mut open = vec![first];
    while let Some(world) = open.pop() {
        // All have their answers: nothing more can be told wrongly.
        if world.clients.iter().all(|client| client.answer.is_some()) {
            continue;
        }
        let mut nexts = Vec::new();
        for message in &world.under_way {
            let mut next = world.clone();
            next.deliver(message, scope)?;
            nexts.push(next);
        }
        for (at, client) in world.clients.iter().enumerate() {
            if client.answer.is_none() && client.attempts < scope.attempts[at] {
                let mut next = world.clone();
                // What is left of the former attempt may still arrive, and is heard by nobody.
                next.begin(at, scope);
                nexts.push(next);
            }
        }
        for next in nexts {
            if seen.insert(print(&next)) {
                open.push(next);
            }
        }
    }
    Ok(seen.len())
}

fn set(value: &'static str) -> Change {
    Change::Set(Bytes::from_static(value.as_bytes()))
}

fn scope(planted: Planted, changes: Vec<Change>, attempts: Vec<u8>) -> Scope {
    let views = vec![vec![ids(&[1, 2, 3])]; changes.len()];
    Scope { changes, views, acceptors: 3, attempts, planted }
}

fn cas() -> Change {
    Change::CompareAndSet { expected: None, value: Some(Bytes::from_static(b"b")) }
}

#[test]
fn every_order_of_two_changes_is_linearizable() {
    let mut states = 0;
    for changes in [vec![set("a"), cas()], vec![set("a"), Change::Read]] {
        states += explore(&scope(Planted::Nothing, changes, vec![1, 1])).unwrap();
    }
    println!("{states} states of registers");
}

#[test]
fn a_view_before_a_change_of_owners_and_one_in_it_share_a_majority() {
    let views = vec![vec![ids(&[1, 2])], vec![ids(&[1, 2]), ids(&[2, 3])]];
    let changes = vec![set("a"), Change::Read];
    let good =
        Scope { changes, views, acceptors: 3, attempts: vec![1, 1], planted: Planted::Nothing };
    explore(&good).unwrap();
    let views = vec![vec![ids(&[1, 4, 5])], vec![ids(&[2, 3, 5])]];
    let planted = Planted::NewSetAlone;
    assert!(explore(&Scope { acceptors: 5, views, planted, ..good }).is_err());
}

#[test]
fn each_planted_bug_breaks_linearizability() {
    for planted in
        [Planted::AcceptsBelowItsPromise, Planted::ForgetsItsPromises, Planted::TakesAnOldState]
    {
        let found = explore(&scope(planted, vec![set("a"), set("b")], vec![1, 1]));
        assert!(found.is_err(), "{planted:?} was not noticed in {found:?} states");
    }
}

#[test]
fn a_retried_change_is_made_once() {
    let request = RequestId(7);
    let (once, decision) = State::default().apply(request, &set("a"));
    assert_eq!((decision, once.version), (Decision::Made, 1));
    assert_eq!(once.apply(request, &set("a")), (once.clone(), Decision::MadeBefore));
    let (kept, decision) = once.apply(RequestId(8), &Change::PutIfAbsent(Bytes::new()));
    assert_eq!((kept, decision), (once.clone(), Decision::Kept));
    let (gone, _) = once.apply(RequestId(9), &Change::Delete);
    assert_eq!((gone.value, gone.version), (None, 2));
}

#[test]
fn a_majority_that_is_refused_begins_again_above_it() {
    let sets = vec![ids(&[1, 2, 3])];
    let low = Ballot { round: 1, node: NodeId(1) };
    let high = Ballot { round: 5, node: NodeId(2) };
    let (mut round, _) = Round::new(low, sets, RequestId(1), Change::Read);
    assert_eq!(round.reply(NodeId(1), Reply::Refused(high)), Step::Wait);
    assert_eq!(round.reply(NodeId(9), Reply::Refused(high)), Step::Wait, "a stranger");
    let again = Step::Again { above: high, may_happen: false };
    assert_eq!(round.reply(NodeId(3), Reply::Refused(high)), again);
    assert!(Ballot::above(Some(high), NodeId(1)) > high);
}
