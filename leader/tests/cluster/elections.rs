//! Who leads, and what a change of leader costs.

use std::time::Duration;

use leader::Role;

use crate::group::{Group, PATIENCE, story};

#[test]
fn a_killed_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    for seed in 0..10 {
        story(|| async move {
            let mut group = Group::started(3, 200 + seed).await;
            for round in 0..3 {
                let leader = group.leader().await;
                for i in 0..20 {
                    group.put(leader, &format!("r{round} k{i}"), "v").await;
                }
                group.kill(leader);
                group.leader().await;
                group.start(leader).await;
                for id in group.ids() {
                    for i in 0..20 {
                        let value = group.get(id, &format!("r{round} k{i}")).await;
                        assert_eq!(value.as_deref(), Some("v"), "round {round} key {i} on {id}");
                    }
                }
            }
            group.converge().await;
            assert_eq!(group.panics(), Vec::<String>::new());
        });
    }
}

#[test]
fn leadership_is_handed_over_without_an_election_timeout() {
    story(|| async {
        let group = Group::started(3, 11).await;
        let leader = group.leader().await;
        let to = group.follower().await;
        let before = tokio::time::Instant::now();
        assert_eq!(group.node(leader).transfer(Some(to)).await, Ok(to));
        assert!(before.elapsed() < Duration::from_millis(300), "{:?}", before.elapsed());
        assert_eq!(group.leader().await, to);
        group.put(leader, "k", "v").await;
    });
}

#[test]
fn a_transfer_to_a_dead_node_ends_and_the_group_goes_on() {
    story(|| async {
        let mut group = Group::started(3, 12).await;
        let leader = group.leader().await;
        let dead = group.follower().await;
        group.kill(dead);
        // Either nobody takes over, or the third node does when the leader goes silent.
        assert_ne!(group.node(leader).transfer(Some(dead)).await, Ok(dead));
        group.put(leader, "k", "v").await;
    });
}

#[test]
fn a_leader_that_stops_gracefully_hands_over_first() {
    story(|| async {
        let mut group = Group::started(3, 13).await;
        let leader = group.leader().await;
        group.put(leader, "k", "v").await;
        let node = group.node(leader);
        let stopping = tokio::spawn(async move { node.shutdown().await });
        let others: Vec<_> = group.ids().into_iter().filter(|id| *id != leader).collect();
        let before = tokio::time::Instant::now();
        group.put(others[0], "k", "w").await;
        assert!(before.elapsed() < Duration::from_millis(500), "{:?}", before.elapsed());
        stopping.await.unwrap();
        group.kill(leader);
        assert_eq!(group.get(others[1], "k").await.as_deref(), Some("w"));
        group.start(leader).await;
        assert_eq!(group.get(leader, "k").await.as_deref(), Some("w"));
    });
}

#[test]
fn a_paused_leader_finds_that_another_one_leads() {
    story(|| async {
        let group = Group::started(3, 14).await;
        let old = group.leader().await;
        group.put(old, "k", "1").await;
        group.pause(old);
        let other = group.ids().into_iter().find(|id| *id != old).unwrap();
        group.put(other, "k", "2").await;
        group.resume(old);
        assert_eq!(group.get(old, "k").await.as_deref(), Some("2"));
    });
}

#[test]
fn a_node_cut_off_for_long_does_not_disturb_the_others_when_it_returns() {
    story(|| async {
        let group = Group::started(3, 15).await;
        let leader = group.leader().await;
        let away = group.follower().await;
        let term = group.node(leader).status().term;
        group.net.isolate(away);
        tokio::time::sleep(Duration::from_secs(30)).await;
        group.net.rejoin(away);
        group.put(away, "k", "v").await;
        let status = group.node(leader).status();
        assert_eq!((status.role, status.term), (Role::Leader, term));
    });
}

#[test]
fn a_failed_sync_stops_the_node_and_the_others_go_on() {
    story(|| async {
        let mut group = Group::started(3, 16).await;
        let leader = group.leader().await;
        group.put(leader, "k", "1").await;
        group.disk(leader).fail_next_sync();
        let other = group.ids().into_iter().find(|id| *id != leader).unwrap();
        group.put(other, "k", "2").await;
        let stopped = group.node(leader).wait_until(PATIENCE, |s| s.failure.is_some()).await;
        assert!(stopped.is_ok(), "{stopped:?}");
        assert_eq!(stopped.unwrap().role, Role::Stopped);
        group.kill(leader);
        group.start(leader).await;
        assert_eq!(group.get(leader, "k").await.as_deref(), Some("2"));
    });
}
