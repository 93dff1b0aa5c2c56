use proptest::prelude::*;

use super::Decision::{Acknowledge, Impossible, Wait};
use super::*;

const TERM: u64 = 3;
const ENTRY: LogPos = LogPos { term: TERM, index: 10 };

fn ids(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

/// Voters 1 to 5 and the learner 6, of which 1 leads.
fn members() -> Members {
    let region = |id: u64| Region(if id <= 3 { "north" } else { "south" }.to_owned());
    Members {
        voters: (1..=5).map(NodeId).collect(),
        learners: BTreeSet::from([NodeId(6)]),
        regions: (1..=6).map(|id| (NodeId(id), region(id))).collect(),
    }
}

/// What is known when these hold the entry durably, and these have applied it; everybody else holds
/// the entry before it.
fn seen(durable: &[u64], applied: &[u64], committed: bool) -> Progress {
    let at = |held: &[u64]| {
        (1..=6)
            .map(|id| {
                let index = if held.contains(&id) { ENTRY.index } else { ENTRY.index - 1 };
                (NodeId(id), LogPos { term: TERM, index })
            })
            .collect::<BTreeMap<_, _>>()
    };
    let index = if committed { ENTRY.index } else { ENTRY.index - 1 };
    Progress {
        leader: NodeId(1),
        leads: Some(TERM),
        committed: Some(LogPos { term: TERM, index }),
        durable: at(durable),
        applied: at(applied),
        present: (2..=6).map(NodeId).collect(),
    }
}

fn decided(mode: &ReplicationMode, seen: &Progress) -> Decision {
    decide(mode, ENTRY, seen, &members())
}

fn sync(who: Who, point: AckPoint) -> ReplicationMode {
    ReplicationMode::Sync { who, point }
}

#[test]
fn async_asks_for_the_leaders_own_disk_its_term_and_its_lease() {
    let mode = ReplicationMode::Async;
    assert_eq!(decided(&mode, &seen(&[], &[], false)), Wait);
    assert_eq!(decided(&mode, &seen(&[2, 3], &[], false)), Wait, "not the leader's disk");
    assert_eq!(decided(&mode, &seen(&[1], &[], false)), Acknowledge);
    let mut deposed = seen(&[1], &[], false);
    deposed.leads = None;
    assert_eq!(decided(&mode, &deposed), Wait, "without a lease");
    deposed.leads = Some(TERM + 1);
    assert_eq!(decided(&mode, &deposed), Wait, "a later term of its own");
    deposed.committed = Some(ENTRY);
    assert_eq!(decided(&mode, &deposed), Acknowledge, "what is committed stays so");
}

#[test]
fn semi_sync_counts_voters_besides_the_leader_and_no_learner() {
    let mode = |followers| ReplicationMode::SemiSync { followers };
    assert_eq!(decided(&mode(1), &seen(&[1], &[], false)), Wait);
    assert_eq!(decided(&mode(1), &seen(&[1, 6], &[], false)), Wait, "6 is a learner");
    assert_eq!(decided(&mode(1), &seen(&[1, 4], &[], false)), Acknowledge);
    assert_eq!(decided(&mode(2), &seen(&[1, 4], &[], false)), Wait);
    assert_eq!(decided(&mode(2), &seen(&[1, 4, 5], &[], false)), Acknowledge);
    assert_eq!(decided(&mode(4), &seen(&[1, 2, 3], &[], true)), Wait, "a commit is less");
    assert_eq!(decided(&mode(4), &seen(&[1, 2, 3, 4, 5], &[], true)), Acknowledge);
    assert_eq!(decided(&mode(5), &seen(&[1, 2, 3, 4, 5], &[], true)), Impossible);
}

#[test]
fn quorum_is_the_commit_and_nothing_else() {
    assert_eq!(decided(&ReplicationMode::Quorum, &seen(&[1, 2, 3, 4, 5], &[], false)), Wait);
    assert_eq!(decided(&ReplicationMode::Quorum, &seen(&[], &[], true)), Acknowledge);
}

#[test]
fn all_asks_every_voter_and_no_learner() {
    let (durable, applied) = (sync(Who::All, AckPoint::Durable), sync(Who::All, AckPoint::Applied));
    assert_eq!(decided(&durable, &seen(&[1, 2, 3, 4, 5], &[], false)), Wait, "not committed");
    assert_eq!(decided(&durable, &seen(&[1, 2, 3, 4], &[], true)), Wait);
    assert_eq!(decided(&durable, &seen(&[1, 2, 3, 4, 5], &[], true)), Acknowledge);
    assert_eq!(decided(&applied, &seen(&[1, 2, 3, 4, 5], &[1, 2, 3, 4], true)), Wait);
    assert_eq!(decided(&applied, &seen(&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5], true)), Acknowledge);
}

#[test]
fn any_counts_the_named_in_any_order_once_each() {
    let any = |n, of: &[u64]| sync(Who::Any(n, ids(of)), AckPoint::Durable);
    assert_eq!(decided(&any(2, &[2, 3, 6]), &seen(&[1, 2], &[], true)), Wait);
    assert_eq!(decided(&any(2, &[2, 3, 6]), &seen(&[1, 2, 6], &[], true)), Acknowledge);
    assert_eq!(decided(&any(2, &[2, 2, 3]), &seen(&[1, 2], &[], true)), Wait, "2 counts once");
    assert_eq!(decided(&any(1, &[9]), &seen(&[1, 2], &[], true)), Impossible);
    assert_eq!(decided(&any(3, &[2, 3]), &seen(&[1, 2, 3], &[], true)), Impossible);
    assert_eq!(decided(&any(0, &[2]), &seen(&[1], &[], true)), Impossible);
}

#[test]
fn first_never_lets_a_later_name_stand_in_for_one_that_is_present() {
    let first = |n, of: &[u64]| sync(Who::First(n, ids(of)), AckPoint::Durable);
    let mut now = seen(&[1, 3], &[], true);
    assert_eq!(decided(&first(1, &[2, 3]), &now), Wait, "2 is present and has not reached it");
    now.present.remove(&NodeId(2));
    assert_eq!(decided(&first(1, &[2, 3]), &now), Acknowledge, "2 is absent");
    now.present.remove(&NodeId(3));
    assert_eq!(decided(&first(1, &[2, 3]), &now), Acknowledge, "3 has it, present or not");
    assert_eq!(decided(&first(2, &[2, 3]), &now), Wait, "fewer than two are present");
    let reached = seen(&[1, 2], &[], true);
    assert_eq!(decided(&first(1, &[2, 3]), &reached), Acknowledge);
}

#[test]
fn each_datacenter_counts_members_of_every_region() {
    let regions = |north, south| {
        let named = [("north", north), ("south", south)];
        let named = named.into_iter().map(|(name, n)| (Region(name.to_owned()), n));
        sync(Who::EachDatacenter(named.collect()), AckPoint::Durable)
    };
    assert_eq!(decided(&regions(1, 1), &seen(&[1, 2, 3], &[], true)), Wait);
    assert_eq!(decided(&regions(1, 1), &seen(&[1, 2, 6], &[], true)), Acknowledge, "6 learns");
    assert_eq!(decided(&regions(3, 2), &seen(&[1, 2, 4, 5], &[], true)), Wait);
    assert_eq!(decided(&regions(4, 1), &seen(&[1, 2, 3, 4], &[], true)), Impossible);
    let nowhere = Who::EachDatacenter(BTreeMap::from([(Region("west".to_owned()), 1)]));
    assert!(check(&sync(nowhere, AckPoint::Durable), &members()).unwrap_err().contains("west"));
}

/// Every subset of members that hold the entry, against the definition written the long way round.
#[test]
fn every_subset_of_holders_is_judged_as_the_definition_says() {
    for holders in 0..1_u32 << 5 {
        let held: Vec<u64> = (1..=5).filter(|id| holders & (1 << (id - 1)) != 0).collect();
        let others = held.iter().filter(|id| **id != 1).count();
        for committed in [false, true] {
            let now = seen(&held, &held, committed);
            let says = |mode: &ReplicationMode| decided(mode, &now) == Acknowledge;
            let own = held.contains(&1);
            assert_eq!(says(&ReplicationMode::Async), own || committed);
            for k in 0..=4 {
                let mode = ReplicationMode::SemiSync { followers: k };
                assert_eq!(says(&mode), (own || committed) && others >= usize::from(k));
            }
            for point in [AckPoint::Durable, AckPoint::Applied] {
                assert_eq!(says(&sync(Who::All, point)), committed && held.len() == 5);
            }
        }
    }
}

proptest! {
    /// Those who wait are told in the order of their entries: whoever is due makes all before it due.
    #[test]
    fn what_is_acknowledged_covers_every_earlier_entry(
        durable in prop::collection::vec(0_u64..12, 6),
        applied in prop::collection::vec(0_u64..12, 6),
        present in prop::collection::vec(any::<bool>(), 6),
        committed in 0_u64..12,
        index in 1_u64..12,
    ) {
        let positions = |indexes: &[u64]| {
            let all = (1..).map(NodeId).zip(indexes);
            all.map(|(id, index)| (id, LogPos { term: TERM, index: *index })).collect()
        };
        let here = (1..).map(NodeId).zip(present).filter(|(_, here)| *here).map(|(id, _)| id);
        let now = Progress {
            leader: NodeId(1),
            leads: Some(TERM),
            committed: Some(LogPos { term: TERM, index: committed }),
            durable: positions(&durable),
            applied: positions(&applied),
            present: here.collect(),
        };
        let modes = [
            ReplicationMode::Async,
            ReplicationMode::SemiSync { followers: 2 },
            ReplicationMode::Quorum,
            sync(Who::All, AckPoint::Applied),
            sync(Who::First(2, ids(&[4, 2, 3])), AckPoint::Durable),
            sync(Who::Any(2, ids(&[2, 3, 6])), AckPoint::Applied),
        ];
        for mode in modes {
            let at = |index| decide(&mode, LogPos { term: TERM, index }, &now, &members());
            if at(index) == Acknowledge {
                prop_assert_eq!(at(index - 1), Acknowledge, "{:?}", mode);
            }
        }
    }
}
