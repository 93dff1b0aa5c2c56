//! Reads with a bound on their age, proven without comparing clocks.

use std::time::Duration;

use leader::{ReadError, ReadLevel, ReadOptions};

use crate::group::{Group, story};

const BOUND: Duration = Duration::from_millis(200);

/// Behaviour 12 of the design: whatever the wall clocks say.
#[test]
fn a_bounded_read_sees_all_that_is_older_than_its_bound_on_every_member() {
    story(|| async {
        let group = Group::started(3, 70).await;
        for (id, hours) in group.ids().into_iter().zip([0, 1, -1]) {
            group.set_wall_offset(id, hours * 3_600_000);
        }
        for round in 0..50_u64 {
            group.put(group.leader().await, "key", &round.to_string()).await;
            tokio::time::sleep(BOUND + Duration::from_millis(round % 7)).await;
            for id in group.ids() {
                let read = group.read(id, "key", ReadLevel::Bounded(BOUND)).await;
                assert_eq!(read.as_deref(), Some(round.to_string().as_str()), "on {id}");
                let age = group.node(id).proven_age().unwrap();
                assert!(age <= BOUND, "{age:?} on {id}");
            }
        }
    });
}

#[test]
fn a_member_that_lags_behind_the_bound_does_not_answer() {
    story(|| async {
        let group = Group::started(3, 71).await;
        let leader = group.leader().await;
        let follower = group.follower().await;
        group.put(leader, "key", "old").await;
        assert!(group.read(follower, "key", ReadLevel::Bounded(BOUND)).await.is_some());
        group.net.isolate(follower);
        group.put(leader, "key", "new").await;
        let read = |level| {
            let mut options = ReadOptions::level(level);
            options.timeout = Duration::from_millis(500);
            let node = group.node(follower);
            async move { node.view(options).await }
        };
        tokio::time::sleep(BOUND).await;
        for _ in 0..10 {
            let refused = read(ReadLevel::Bounded(BOUND)).await.unwrap_err();
            assert!(matches!(refused, ReadError::NoLeader(_) | ReadError::Behind(_)), "{refused}");
        }
        // A wide bound is still kept by what was proven before.
        assert!(read(ReadLevel::Bounded(Duration::from_secs(3600))).await.is_ok());
        group.net.rejoin(follower);
        let level = ReadLevel::Bounded(BOUND);
        assert_eq!(group.read(follower, "key", level).await.as_deref(), Some("new"));
    });
}

/// A leader that was cut off proves nothing once its lease is over.
#[test]
fn a_deposed_leader_does_not_answer_beyond_the_bound() {
    story(|| async {
        let group = Group::started(3, 72).await;
        let old = group.leader().await;
        group.put(old, "key", "old").await;
        assert!(group.read(old, "key", ReadLevel::Bounded(BOUND)).await.is_some());
        group.net.isolate(old);
        let other = group.ids().into_iter().find(|id| *id != old).unwrap();
        group.put(other, "key", "new").await;
        tokio::time::sleep(BOUND).await;
        let mut options = ReadOptions::level(ReadLevel::Bounded(BOUND));
        options.timeout = Duration::from_millis(500);
        assert!(group.node(old).view(options).await.is_err());
    });
}
