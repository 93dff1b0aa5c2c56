//! When writes are acknowledged, and that their fate is told ever after.

use std::collections::BTreeSet;
use std::time::Duration;

use common::ids::{NodeId, Region};
use common::outcome::{HasOutcome, Outcome};
use common::receipt::{Fate, Receipt};
use common::token::LogToken;
use leader::key_value::{Command, KeyValue, Reply};
use leader::{
    AckPoint, AckReport, Node, ReadError, ReadLevel, ReadOptions, ReplicationMode, ResolveError,
    Who, WriteError, WriteOptions, Written,
};

use crate::group::{Group, PATIENCE, story};

const SHORT: Duration = Duration::from_secs(2);

fn with(mode: ReplicationMode) -> WriteOptions {
    let mut options = WriteOptions::mode(mode);
    options.timeout = SHORT;
    options
}

async fn set(
    node: &Node<KeyValue>,
    key: &str,
    mode: ReplicationMode,
) -> Result<Written<Reply>, WriteError> {
    node.write(Command::set(key.to_owned(), "value"), with(mode)).await
}

async fn fate(group: &Group, on: NodeId, written: &Written<Reply>) -> Fate {
    let receipt = Receipt::from(written.receipt);
    group.node(on).resolve(&receipt, PATIENCE).await.unwrap()
}

/// A group whose nodes have written before, so that each has a session.
async fn started(nodes: u64, seed: u64) -> Group {
    let group = Group::started(nodes, seed).await;
    for id in group.ids() {
        group.put(id, "first", "value").await;
    }
    group.converge().await;
    group
}

const fn semi_sync(followers: u8) -> ReplicationMode {
    ReplicationMode::SemiSync { followers }
}

fn sync(who: Who, point: AckPoint) -> ReplicationMode {
    ReplicationMode::Sync { who, point }
}

#[test]
fn every_mode_is_acknowledged_through_every_node_and_is_committed_later() {
    story(|| async {
        let group = started(3, 40).await;
        let named = || vec![NodeId(1), NodeId(2)];
        let modes = [
            ReplicationMode::Async,
            semi_sync(1),
            semi_sync(2),
            ReplicationMode::Quorum,
            sync(Who::All, AckPoint::Durable),
            sync(Who::All, AckPoint::Applied),
            sync(Who::First(1, named()), AckPoint::Durable),
            sync(Who::Any(2, named()), AckPoint::Applied),
        ];
        for mode in modes {
            for id in group.ids() {
                let key = format!("{mode} through {id}");
                let written = set(&group.node(id), &key, mode.clone()).await.unwrap();
                assert_eq!(written.reply, Reply::Set);
                if let ReplicationMode::Sync { point: AckPoint::Applied, .. } = &mode {
                    assert!(written.report.applied.len() >= 2, "{mode}: {:?}", written.report);
                }
                for asked in group.ids() {
                    assert_eq!(fate(&group, asked, &written).await, Fate::Committed, "{mode}");
                }
            }
        }
        group.converge().await;
    });
}

#[test]
fn async_is_acknowledged_without_the_followers_and_quorum_is_not() {
    story(|| async {
        let group = started(3, 41).await;
        let leader = group.leader().await;
        let node = group.node(leader);
        group.net.isolate(leader);
        let written = set(&node, "early", ReplicationMode::Async).await.unwrap();
        let alone = AckReport {
            committed: false,
            durable: BTreeSet::from([leader]),
            applied: BTreeSet::new(),
        };
        assert_eq!(written.report, alone);
        let late = set(&node, "late", semi_sync(1)).await.unwrap_err();
        assert_eq!(late.outcome(), Outcome::Unknown, "{late}");
    });
}

/// Behaviours 3 and 4 of the design: acknowledgements stop within a lease, every one of them that
/// the failover takes away is told as lost by every member, and none was ever read.
#[test]
fn an_isolated_leader_stops_acknowledging_and_its_lost_writes_are_told() {
    story(|| async {
        let group = started(3, 42).await;
        let old = group.leader().await;
        let others: Vec<NodeId> = group.ids().into_iter().filter(|id| *id != old).collect();
        let node = group.node(old);
        group.net.isolate(old);
        let begun = tokio::time::Instant::now();
        let (mut acknowledged, mut last) = (Vec::new(), begun);
        while begun.elapsed() < SHORT {
            let mut options = with(ReplicationMode::Async);
            options.timeout = Duration::from_millis(200);
            let key = format!("lost {}", acknowledged.len());
            if let Ok(written) = node.write(Command::set(key, "value"), options).await {
                assert!(!written.report.committed);
                acknowledged.push(written);
                last = tokio::time::Instant::now();
            }
            let seen = node.view(ReadOptions::level(ReadLevel::Eventual)).await.unwrap();
            assert!(KeyValue::get(&seen, seen.clock(), b"lost 0").unwrap().is_none(), "read");
        }
        let lease = Duration::from_millis(600);
        assert!(last - begun <= lease + Duration::from_millis(50), "{:?}", last - begun);
        assert!(acknowledged.len() > 10, "{} were acknowledged", acknowledged.len());
        for id in &others {
            group.put(*id, &format!("kept {id}"), "value").await;
        }
        let lost = |fate| matches!(fate, Fate::Lost { .. });
        for written in &acknowledged {
            assert!(lost(fate(&group, others[0], written).await), "before the heal");
        }
        group.net.rejoin(old);
        group.converge().await;
        for written in &acknowledged {
            for id in group.ids() {
                assert!(lost(fate(&group, id, written).await), "by {id}");
            }
        }
        for number in 0..acknowledged.len() {
            assert_eq!(group.get(old, &format!("lost {number}")).await, None, "it came back");
        }
    });
}

#[test]
fn a_write_whose_fate_was_unknown_is_not_brought_back_by_the_node_that_took_it() {
    story(|| async {
        let group = started(3, 43).await;
        let old = group.leader().await;
        let node = group.node(old);
        group.net.isolate(old);
        let told = set(&node, "key", ReplicationMode::Quorum).await.unwrap_err();
        assert_eq!(told.outcome(), Outcome::Unknown);
        let other = group.ids().into_iter().find(|id| *id != old).unwrap();
        group.put(other, "key", "newer").await;
        group.net.rejoin(old);
        group.converge().await;
        group.put(old, "another", "through the same session").await;
        assert_eq!(group.get(old, "key").await.as_deref(), Some("newer"));
    });
}

#[test]
fn all_waits_for_the_slowest_and_its_timeout_says_what_was_achieved() {
    story(|| async {
        let group = started(3, 44).await;
        let leader = group.leader().await;
        let away = group.follower().await;
        group.net.isolate(away);
        let told = set(&group.node(leader), "key", sync(Who::All, AckPoint::Durable)).await;
        let Err(WriteError::AckTimeout { receipt, report }) = told else { panic!("{told:?}") };
        assert!(report.committed && report.durable.len() == 2, "{report:?}");
        assert!(!report.durable.contains(&away));
        let fate = group.node(leader).resolve(&Receipt::from(*receipt), SHORT).await;
        assert_eq!(fate.unwrap(), Fate::Committed);
        group.net.rejoin(away);
        let mode = sync(Who::All, AckPoint::Applied);
        let written = set(&group.node(away), "key 2", mode).await.unwrap();
        assert_eq!(written.report.applied.len(), 3);
        for id in group.ids() {
            let value = group.read(id, "key 2", ReadLevel::Eventual).await;
            assert_eq!(value.as_deref(), Some("value"), "an eventual read on {id}");
        }
    });
}

#[test]
fn per_datacenter_waits_for_members_of_every_region() {
    story(|| async {
        let labels = |config: &mut leader::Config| {
            let regions = [(1, "north"), (2, "north"), (3, "south")];
            let label = |(id, name): (u64, &str)| (NodeId(id), Region(name.to_owned()));
            config.regions = regions.into_iter().map(label).collect();
        };
        let group = Group::new(3, 53).with(labels).start_all().await;
        let mode = |north: u8, south: u8| {
            let named = [("north", north), ("south", south)];
            let regions = named.map(|(name, n)| (Region(name.to_owned()), n)).into();
            sync(Who::EachDatacenter(regions), AckPoint::Durable)
        };
        let leader = group.leader().await;
        let node = group.node(leader);
        let written = set(&node, "one of each", mode(1, 1)).await.unwrap();
        assert!(written.report.durable.contains(&NodeId(3)), "{:?}", written.report);
        let refused = set(&node, "key", mode(1, 2)).await.unwrap_err();
        assert!(refused.to_string().contains("region south"), "{refused}");
        if leader != NodeId(3) {
            group.net.isolate(NodeId(3));
            let told = set(&node, "without the south", mode(1, 1)).await.unwrap_err();
            assert_eq!(told.outcome(), Outcome::Applied, "{told}");
        }
    });
}

#[test]
fn first_waits_for_the_first_name_while_it_is_present() {
    story(|| async {
        let group = started(3, 45).await;
        let leader = group.leader().await;
        let followers: Vec<NodeId> = group.ids().into_iter().filter(|id| *id != leader).collect();
        let mode = sync(Who::First(1, followers.clone()), AckPoint::Durable);
        let written = set(&group.node(leader), "both", mode.clone()).await.unwrap();
        assert!(written.report.durable.contains(&followers[0]));
        group.net.isolate(followers[0]);
        // Absent once it has been silent for a lease: then the second name is the first.
        let written = set(&group.node(leader), "one", mode).await.unwrap();
        assert!(written.report.durable.contains(&followers[1]));
        assert!(!written.report.durable.contains(&followers[0]));
    });
}

#[test]
fn a_mode_that_the_members_cannot_honour_is_refused_and_nothing_is_applied() {
    story(|| async {
        let group = started(3, 46).await;
        let node = group.node(NodeId(1));
        for mode in [
            semi_sync(3),
            sync(Who::Any(1, vec![NodeId(9)]), AckPoint::Durable),
            sync(Who::First(3, vec![NodeId(1), NodeId(2)]), AckPoint::Durable),
        ] {
            let refused = set(&node, "key", mode).await.unwrap_err();
            assert_eq!(refused.outcome(), Outcome::NotApplied, "{refused}");
        }
        assert_eq!(group.get(NodeId(1), "key").await, None);
    });
}

#[test]
fn commands_with_a_reply_wait_for_the_commit_in_every_mode() {
    story(|| async {
        let group = started(3, 47).await;
        let leader = group.leader().await;
        let node = group.node(leader);
        let added = node
            .write(Command::increment("counter", 1), with(ReplicationMode::Async))
            .await
            .unwrap();
        assert!(added.report.committed);
        group.net.isolate(leader);
        let told = node.write(Command::increment("counter", 1), with(ReplicationMode::Async)).await;
        assert_eq!(told.unwrap_err().outcome(), Outcome::Unknown);
    });
}

#[test]
fn a_causal_read_sees_the_sessions_writes_on_every_member() {
    story(|| async {
        let group = started(3, 48).await;
        let leader = group.leader().await;
        let mut token = group.node(leader).token().unwrap();
        for number in 0..50 {
            let mode =
                if number % 2 == 0 { ReplicationMode::Async } else { ReplicationMode::Quorum };
            let key = format!("key {number}");
            let on = group.ids()[number % 3];
            let written = set(&group.node(on), &key, mode).await.unwrap();
            written.note_in(&mut token).unwrap();
            for id in group.ids() {
                let view = group.node(id).view(ReadOptions::causal(token.clone())).await.unwrap();
                let found = KeyValue::get(&view, view.clock(), key.as_bytes()).unwrap();
                assert!(found.is_some(), "{key} on {id}");
            }
        }
    });
}

#[test]
fn a_session_that_lost_a_write_is_told_so() {
    story(|| async {
        let group = started(3, 49).await;
        let old = group.leader().await;
        let mut token = group.node(old).token().unwrap();
        group.net.isolate(old);
        let written = set(&group.node(old), "lost", ReplicationMode::Async).await.unwrap();
        written.note_in(&mut token).unwrap();
        let other = group.ids().into_iter().find(|id| *id != old).unwrap();
        group.put(other, "kept", "value").await;
        let told = group.node(other).view(ReadOptions::causal(token)).await.map(|_| ());
        assert_eq!(told, Err(ReadError::SessionLost { lost: written.at }));
    });
}

#[test]
fn receipts_and_tokens_of_another_cluster_are_refused_by_name() {
    story(|| async {
        let (one, other) = (started(1, 50).await, started(1, 51).await);
        let id = NodeId(1);
        let written = set(&one.node(id), "key", ReplicationMode::Quorum).await.unwrap();
        let told = other.node(id).resolve(&Receipt::from(written.receipt), SHORT).await;
        assert!(matches!(told, Err(ResolveError::Foreign(_))), "{told:?}");
        let token: LogToken = one.node(id).token().unwrap();
        let told = other.node(id).view(ReadOptions::causal(token)).await.map(|_| ());
        assert!(matches!(told, Err(ReadError::OtherToken(_))), "{told:?}");
    });
}

/// The position of a lost write may be taken by another: that is told, too.
#[test]
fn resolve_names_what_stands_in_the_place_of_a_lost_write() {
    story(|| async {
        let mut group = started(3, 52).await;
        let old = group.leader().await;
        group.net.isolate(old);
        let written = set(&group.node(old), "lost", ReplicationMode::Async).await.unwrap();
        let other = group.ids().into_iter().find(|id| *id != old).unwrap();
        for number in 0..20 {
            group.put(other, &format!("kept {number}"), "value").await;
        }
        // Also when the leader that took it is gone with its disk.
        group.unplug(old);
        let Fate::Lost { replaced_by: Some(at) } = fate(&group, other, &written).await else {
            panic!("it is lost, and its place is taken");
        };
        assert_eq!(at.index, written.at.index);
        assert!(at.term > written.at.term);
    });
}
