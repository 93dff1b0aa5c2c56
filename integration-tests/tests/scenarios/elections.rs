//! Who may lead, and who must not.

use std::time::Duration;

use common::ids::{Incarnation, LogPos, NodeId};
use common::transport::Class;
use leader::key_value::Command;
use leader::message::{Candidacy, Cause, Reply, Request, Vote};
use leader::{Config, ReadLevel, ReadOptions, ReplicationMode, Role, WriteOptions};
use tokio::time::Instant;

use crate::group::{Group, story};

const LEASE: Duration = Duration::from_millis(600);

pub(crate) fn quick(mode: ReplicationMode, millis: u64) -> WriteOptions {
    let mut options = WriteOptions::mode(mode);
    options.timeout = Duration::from_millis(millis);
    options
}

pub(crate) fn others(group: &Group, than: NodeId) -> Vec<NodeId> {
    group.ids().into_iter().filter(|id| *id != than).collect()
}

/// A third voter that leads only as the last resort, five leases later.
fn third_is_barred(config: &mut Config) {
    if config.node == NodeId(3) {
        config.election_priority = 0;
    }
}

/// openraft#1511: a leader restarts at once with a shorter log than its follower, and goes on in
/// its term.
pub(crate) fn restored_leader_reuses_term() {
    story(|| async {
        let mut group = Group::started(3, 900).await;
        let old = group.leader().await;
        let [a, b] = others(&group, old)[..] else { panic!() };
        let term = group.node(old).status().term;
        group.net.cut(old, b);
        group.disk(old).stall_syncs(true);
        let node = group.node(old);
        let set = Command::set("key", "replicated, not synced");
        let _ = node.write(set, quick(ReplicationMode::Async, 100)).await;
        drop(node);
        group.unplug(old);
        group.disk(old).stall_syncs(false);
        group.net.heal_all();
        group.start(old).await;
        let leader = group.leader().await;
        assert!(group.node(leader).status().term > term, "a term was led twice");
        group.put(a, "after", "value").await;
        group.converge().await;
        assert_eq!(group.panics(), Vec::<String>::new());
    });
}

/// openraft's TODO: a restarted voter forgets the lease that it promised, and elects another
/// leader inside it.
pub(crate) fn restart_forgets_lease() {
    for seed in 0..10 {
        story(|| async move {
            let mut group = Group::started(3, 910 + seed).await;
            let old = group.leader().await;
            group.put(old, "key", "value").await;
            let rest = others(&group, old);
            group.net.isolate(old);
            let cut = Instant::now();
            for id in &rest {
                group.kill(*id);
                group.start(*id).await;
            }
            while cut.elapsed() < LEASE.mul_f64(0.9) {
                for id in &rest {
                    let role = group.node(*id).status().role;
                    assert_ne!(role, Role::Leader, "{id} leads {:?} later", cut.elapsed());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            group.leader().await;
        });
    }
}

/// openraft#1747: a leader that hands over goes on answering by its lease.
pub(crate) fn lease_read_during_transfer() {
    story(|| async {
        let group = Group::started(3, 920).await;
        let old = group.leader().await;
        group.put(old, "key", "1").await;
        let rest = others(&group, old);
        let node = group.node(old);
        let to = rest[0];
        let handing = tokio::spawn(async move { node.transfer(Some(to)).await });
        tokio::time::sleep(Duration::from_micros(100)).await;
        for id in &rest {
            group.net.cut(*id, old);
        }
        let next = group.node(to);
        next.wait_until(LEASE, |s| s.role == Role::Leader).await.unwrap();
        next.write(Command::put("key", "2"), quick(ReplicationMode::Quorum, 400)).await.unwrap();
        let mut options = ReadOptions::level(ReadLevel::Lease);
        options.timeout = Duration::from_millis(50);
        let told = group.node(old).view(options).await.map(|view| view.applied());
        assert!(told.is_err(), "answered by the lease of a leadership that was handed over");
        group.net.heal_all();
        let _ = handing.await.unwrap();
        assert_eq!(group.get(old, "key").await.as_deref(), Some("2"));
    });
}

async fn transfer_fails_and_writes_resume(lag: bool, seed: u64) {
    let mut group = Group::new(3, seed).with(third_is_barred).start_all().await;
    let old = group.leader().await;
    let to = NodeId(3 - old.0);
    if lag {
        group.net.isolate(to);
        for number in 0..20 {
            group.put(old, &format!("key {number}"), "value").await;
        }
        // It hears that it is to take over, but what it lacks never comes.
        group.net.rejoin(to);
        group.net.cut(NodeId(3), to);
        group.net.clog(old, to, Duration::from_secs(30));
    } else {
        group.kill(to);
    }
    let begun = Instant::now();
    assert!(group.node(old).transfer(Some(to)).await.is_err());
    let write =
        group.node(old).write(Command::put("key", "w"), quick(ReplicationMode::Quorum, 1500));
    assert!(write.await.is_ok(), "no write {:?} after the transfer began", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
}

/// openraft#1806: after a transfer whose target died, the leader refuses writes for ever.
pub(crate) fn transfer_never_ends() {
    story(|| transfer_fails_and_writes_resume(false, 930));
}

/// openraft#1805: the same with a target that lags.
pub(crate) fn transfer_to_lagging() {
    story(|| transfer_fails_and_writes_resume(true, 931));
}

/// openraft#2080: a leader without a quorum keeps the one node that could be elected from it.
pub(crate) fn partial_cut_no_leader() {
    for seed in 0..5 {
        story(|| async move {
            let group = Group::started(5, 940 + seed).await;
            let old = group.leader().await;
            let rest = others(&group, old);
            let center = rest[0];
            for a in group.ids() {
                for b in group.ids() {
                    if a != b && a != center && b != center {
                        group.net.cut(a, b);
                    }
                }
            }
            tokio::time::sleep(LEASE * 9).await;
            let put = Command::put("key", "value");
            let written = group.node(center).write(put, quick(ReplicationMode::Quorum, 600)).await;
            assert!(written.is_ok(), "no leader within ten timeouts: {written:?}");
        });
    }
}

/// hashicorp/raft#512, etcd#8501: a node that was cut off comes back with a term of its own and
/// deposes a leader that serves everybody.
pub(crate) fn disruptive_rejoin() {
    story(|| async {
        let group = Group::started(5, 950).await;
        let leader = group.leader().await;
        let away = group.follower().await;
        let term = group.node(leader).status().term;
        group.net.isolate(away);
        tokio::time::sleep(LEASE * 20).await;
        group.net.rejoin(away);
        tokio::time::sleep(LEASE * 3).await;
        let status = group.node(leader).status();
        assert_eq!((status.role, status.term), (Role::Leader, term));
    });
}

/// openraft PR #1220: a node with a short log is elected, and what was committed is gone.
pub(crate) fn outdated_node_elected() {
    story(|| async {
        let mut group = Group::new(3, 960).with(third_is_barred).start_all().await;
        let old = group.leader().await;
        let outdated = NodeId(3 - old.0);
        group.net.isolate(outdated);
        for number in 0..20 {
            group.put(old, &format!("key {number}"), "value").await;
        }
        group.kill(old);
        group.net.rejoin(outdated);
        let leader = group.leader().await;
        assert_eq!(leader, NodeId(3), "only the barred voter has what was committed");
        for number in 0..20 {
            let value = group.get(NodeId(3), &format!("key {number}")).await;
            assert_eq!(value.as_deref(), Some("value"), "key {number}");
        }
    });
}

/// hashicorp/raft#503, consul#22064: a leader whose disk hangs goes on leading.
pub(crate) fn stalled_disk_keeps_leading() {
    story(|| async {
        let group = Group::started(3, 970).await;
        let old = group.leader().await;
        group.put(old, "key", "1").await;
        group.disk(old).stall_syncs(true);
        let begun = Instant::now();
        let node = group.node(old);
        let set = Command::set("key", "never synced by its leader");
        let early = node.write(set, quick(ReplicationMode::Async, 300));
        assert!(early.await.is_ok_and(|w| w.report.committed), "its own disk does not have it");
        let leads = |id: &NodeId| group.node(*id).status().role == Role::Leader;
        while !others(&group, old).iter().any(leads) {
            assert!(begun.elapsed() < LEASE * 5, "nobody else leads after {:?}", begun.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        group.disk(old).stall_syncs(false);
        group.converge().await;
    });
}

/// robustmq PR #2039: a vote is given before it is on the disk.
pub(crate) fn unsynced_vote() {
    story(|| async {
        let mut group = Group::new(3, 980);
        let one = group.start(NodeId(1)).await;
        one.bootstrap(group.members()).await.unwrap();
        let term = one.wait_until(LEASE * 10, |s| s.term > 0).await.unwrap().term + 5;
        let candidate = group.net.attach(NodeId(2), Incarnation(1));
        let vote = Vote { term, node: NodeId(2), established: false };
        let last = Some(LogPos { term, index: 99 });
        let asks = Request::Vote(Candidacy { vote, last, cause: Cause::Transfer }).encode();
        group.disk(NodeId(1)).stall_syncs(true);
        let patience = Duration::from_millis(500);
        let told = candidate.call(NodeId(1), Class::Control, asks.clone(), patience).await;
        let granted = told.is_ok_and(|bytes| {
            matches!(Reply::decode(&bytes), Ok(Reply::Voted { granted: true, .. }))
        });
        assert!(!granted, "a vote that no disk has");
        group.disk(NodeId(1)).stall_syncs(false);
    });
}
