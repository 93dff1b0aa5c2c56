//! What is acknowledged is there, on every node, at the level asked for.

use std::time::Duration;

use common::ids::NodeId;
use common::outcome::{HasOutcome, Outcome};
use leader::key_value::{Command, Condition, Deadline, KeyValue, Operation};
use leader::{ReadLevel, ReadOptions, WriteError, WriteOptions};

use crate::group::{Group, patient, story};

#[test]
fn every_node_takes_writes_and_reads_them_everywhere() {
    story(|| async {
        let group = Group::started(3, 1).await;
        for id in group.ids() {
            group.put(id, &format!("key {id}"), "value").await;
            for reader in group.ids() {
                for level in [ReadLevel::Strong, ReadLevel::Lease] {
                    let value = group.read(reader, &format!("key {id}"), level).await;
                    assert_eq!(value.as_deref(), Some("value"), "{id} {reader} {level:?}");
                }
            }
        }
        group.converge().await;
        assert_eq!(group.panics(), Vec::<String>::new());
    });
}

#[test]
fn one_voter_serves_alone_and_keeps_everything_over_power_loss() {
    story(|| async {
        let mut group = Group::started(1, 2).await;
        let one = NodeId(1);
        for i in 0..50 {
            group.put(one, &format!("k{i}"), "v").await;
        }
        group.unplug(one);
        group.start(one).await;
        for i in 0..50 {
            assert_eq!(group.get(one, &format!("k{i}")).await.as_deref(), Some("v"), "k{i}");
        }
    });
}

#[test]
fn acknowledged_writes_survive_power_loss_of_all_machines() {
    for seed in 0..5 {
        story(|| async move {
            let mut group = Group::started(3, 100 + seed).await;
            for i in 0..100 {
                group.put(NodeId(1 + i % 3), &format!("k{i}"), &i.to_string()).await;
            }
            for id in group.ids() {
                group.unplug(id);
            }
            for id in group.ids() {
                group.start(id).await;
            }
            group.leader().await;
            for i in 0..100 {
                let value = group.get(NodeId(1 + i % 3), &format!("k{i}")).await;
                assert_eq!(value, Some(i.to_string()), "k{i}");
            }
            group.converge().await;
        });
    }
}

#[test]
fn commands_submitted_one_after_the_other_are_applied_in_that_order() {
    story(|| async {
        let group = Group::started(3, 3).await;
        let follower = group.follower().await;
        let node = group.node(follower);
        let writes: Vec<_> = (0..500)
            .map(|i| node.write(Command::append("list", format!("{i},")), patient()))
            .collect();
        for write in writes {
            write.await.unwrap();
        }
        let expected = (0..500).fold(String::new(), |all, i| all + &format!("{i},"));
        assert_eq!(group.get(follower, "list").await, Some(expected));
    });
}

#[test]
fn without_a_majority_writes_are_not_applied_or_unknown_and_strong_reads_fail() {
    story(|| async {
        let mut group = Group::started(3, 4).await;
        let leader = group.leader().await;
        for id in group.ids() {
            if id != leader {
                group.kill(id);
            }
        }
        let mut options = WriteOptions::default();
        options.timeout = Duration::from_secs(2);
        let refused = group.node(leader).write(Command::put("k", "v"), options).await.unwrap_err();
        assert!(matches!(refused.outcome(), Outcome::Unknown | Outcome::NotApplied), "{refused}");
        let mut read = ReadOptions::level(ReadLevel::Strong);
        read.timeout = Duration::from_secs(2);
        assert!(group.node(leader).view(read).await.is_err());
        let eventual = group.node(leader).view(ReadOptions::level(ReadLevel::Eventual)).await;
        assert!(eventual.is_ok(), "what was applied can still be read");
    });
}

#[test]
fn a_cut_off_leader_refuses_strong_and_lease_reads_once_another_leads() {
    story(|| async {
        let group = Group::started(3, 5).await;
        let old = group.leader().await;
        group.put(old, "k", "1").await;
        group.net.isolate(old);
        let others: Vec<_> = group.ids().into_iter().filter(|id| *id != old).collect();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !others.iter().any(|id| group.node(*id).status().leader.is_some_and(|l| l != old)) {
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        group.put(others[0], "k", "2").await;
        for level in [ReadLevel::Strong, ReadLevel::Lease] {
            let mut options = ReadOptions::level(level);
            options.timeout = Duration::from_secs(1);
            assert!(group.node(old).view(options).await.is_err(), "{level:?}");
        }
        group.net.heal_all();
        assert_eq!(group.get(old, "k").await.as_deref(), Some("2"));
    });
}

#[test]
fn keys_expire_on_all_nodes_by_the_replicated_clock() {
    story(|| async {
        let group = Group::started(3, 6).await;
        // One machine's wall clock is an hour ahead: nothing may expire early by it.
        let leader = group.leader().await;
        group.set_wall_offset(leader, 3_600_000);
        let put = Operation::Put {
            key: "k".into(),
            value: "v".into(),
            condition: Condition::Always,
            deadline: Deadline::After(Duration::from_secs(2)),
        };
        group.node(leader).write(put.into(), patient()).await.unwrap();
        group.node(leader).transfer(None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        for id in group.ids() {
            assert!(group.get(id, "k").await.is_some(), "expired early on {id}");
        }
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        for id in group.ids() {
            assert_eq!(group.get(id, "k").await, None, "still there on {id}");
        }
        let digest = group.converge().await;
        let empty = Group::started(1, 7).await;
        assert_eq!(digest, empty.converge().await, "swept, not only hidden");
    });
}

#[test]
fn a_command_that_is_refused_says_so_and_costs_no_entry() {
    story(|| async {
        let group = Group::started(3, 8).await;
        let node = group.node(NodeId(1));
        group.put(NodeId(1), "k", "v").await;
        let before = node.status().last_log;
        let too_large = Command::put("k", vec![0; 2 << 20]);
        let error = node.write(too_large, patient()).await.unwrap_err();
        assert!(matches!(error, WriteError::Refused(_)), "{error}");
        assert_eq!(error.outcome(), Outcome::NotApplied);
        assert_eq!(node.status().last_log, before);
        let view = node.view(ReadOptions::default()).await.unwrap();
        let record = KeyValue::get(&view, view.clock(), b"k").unwrap().unwrap();
        assert_eq!(&record.value[..], b"v");
    });
}
