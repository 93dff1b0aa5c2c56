//! Reads that another member answers: the nearest one that can, or the leader.

use std::time::Duration;

use bytes::Bytes;
use common::ids::NodeId;
use leader::key_value::{Command, KeyValue};
use leader::{Answer, Prefer, ReadError, ReadLevel, ReadOptions};

use crate::group::{Group, patient, story};

async fn read(group: &Group, on: NodeId, options: ReadOptions) -> Result<Answer, ReadError> {
    group.node(on).read(Bytes::from_static(b"key"), options).await
}

fn value(answer: &Answer) -> String {
    let record = KeyValue::answered(&answer.body).unwrap().unwrap();
    String::from_utf8(record.value.to_vec()).unwrap()
}

/// Behaviour 11 of the design: on the member that lags most, a session with a token sees the write.
#[test]
fn a_causal_read_on_the_member_that_lags_most_is_answered_by_one_that_does_not() {
    story(|| async {
        let group = Group::started(3, 320).await;
        let (leader, follower) = (group.leader().await, group.follower().await);
        group.put(leader, "key", "old").await;
        group.converge().await;
        let mut nearest = ReadOptions::level(ReadLevel::Eventual);
        nearest.prefer = Prefer::Nearest;
        read(&group, follower, nearest).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        // Nothing comes from the leader any more, neither entries nor answers.
        group.net.cut(leader, follower);
        let put = Command::put("key", "new");
        let token = group.node(leader).write(put, patient()).await.unwrap().token();
        let mut options = ReadOptions::causal(token.clone());
        options.timeout = Duration::from_millis(300);
        let refused = read(&group, follower, options.clone()).await.unwrap_err();
        assert!(matches!(refused, ReadError::Behind(_)), "{refused}");
        options.prefer = Prefer::Nearest;
        let answer = read(&group, follower, options.clone()).await.unwrap();
        assert_eq!(value(&answer), "new");
        assert!(answer.from != follower && answer.from != leader, "{answer:?}");
        group.net.heal_all();
        options.prefer = Prefer::Here;
        options.timeout = Duration::from_secs(10);
        let leader = group.leader().await;
        let node = group.node(follower);
        let asked = node.read_elsewhere(Bytes::from_static(b"key"), options.clone()).await;
        assert_eq!(asked.unwrap().from, leader);
        // Once it has caught up it answers by itself again.
        group.converge().await;
        let waited = read(&group, follower, options).await.unwrap();
        assert_eq!((value(&waited), waited.from), ("new".into(), follower));
        assert!(waited.at >= token.committed);
    });
}

#[test]
fn a_member_without_a_proof_lets_the_nearest_one_that_has_one_answer() {
    story(|| async {
        let group = Group::started(5, 321).await;
        let leader = group.leader().await;
        let others: Vec<_> = group.ids().into_iter().filter(|id| *id != leader).collect();
        let (asked, near) = (others[0], others[1]);
        group.put(leader, "key", "value").await;
        // A proof on the near one, and none on the one that is asked, which hears no leader.
        let bound = Duration::from_secs(60);
        assert!(group.read(near, "key", ReadLevel::Bounded(bound)).await.is_some());
        let mut options = ReadOptions::level(ReadLevel::Eventual);
        options.prefer = Prefer::Nearest;
        read(&group, asked, options.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let trips = group.node(asked).status().round_trips;
        assert_eq!(trips.len(), 4, "{trips:?}");
        for other in group.ids().into_iter().filter(|id| *id != asked && *id != near) {
            group.net.cut(other, asked);
            group.net.cut(asked, other);
        }
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        options.level = ReadLevel::Bounded(bound);
        options.timeout = Duration::from_secs(2);
        let answer = read(&group, asked, options).await.unwrap();
        assert_eq!((value(&answer), answer.from), ("value".into(), near));
        assert!(answer.age.is_some_and(|age| age <= bound), "{answer:?}");
    });
}

#[test]
fn a_member_that_can_answers_itself_and_says_how_old_it_is() {
    story(|| async {
        let group = Group::started(3, 322).await;
        let follower = group.follower().await;
        group.put(group.leader().await, "key", "value").await;
        for prefer in [Prefer::Here, Prefer::Nearest] {
            for level in [ReadLevel::Strong, ReadLevel::Bounded(Duration::from_secs(1))] {
                let mut options = ReadOptions::level(level);
                options.prefer = prefer;
                let answer = read(&group, follower, options).await.unwrap();
                assert_eq!((value(&answer), answer.level), ("value".into(), level));
                assert!(answer.age.is_some_and(|age| age <= Duration::from_secs(1)), "{answer:?}");
                if level == ReadLevel::Strong {
                    assert_eq!(answer.from, follower);
                }
            }
        }
    });
}
