//! Joining, leaving, and what is refused.

use common::ids::NodeId;
use leader::{AdminError, Member, Role};

use crate::group::{Group, PATIENCE, story};

fn member(id: u64) -> Member {
    Member { id: NodeId(id), address: format!("sim:{id}") }
}

#[test]
fn a_learner_catches_up_gets_a_vote_and_replaces_another() {
    story(|| async {
        let mut group = Group::started(3, 41).await;
        let leader = group.leader().await;
        for i in 0..100 {
            group.put(leader, &format!("k{i}"), "v").await;
        }
        group.add_machine(NodeId(4));
        let fourth = group.start(NodeId(4)).await;
        assert_eq!(fourth.status().role, Role::Uninitialized);
        let node = group.node(leader);
        node.add_learner(member(4)).await.unwrap();
        node.promote(NodeId(4)).await.unwrap();
        fourth.wait_until(PATIENCE, |s| s.voters.contains_key(&NodeId(4))).await.unwrap();
        let gone = group.follower().await;
        let leader = group.leader().await;
        group.node(leader).remove(gone).await.unwrap();
        group.kill(gone);
        let status = group.node(leader).status();
        assert_eq!(status.voters.len(), 3);
        assert!(!status.voters.contains_key(&gone));
        assert_eq!(group.get(NodeId(4), "k99").await.as_deref(), Some("v"));
        group.put(NodeId(4), "k", "w").await;
    });
}

#[test]
fn what_contradicts_the_group_is_refused_by_name() {
    story(|| async {
        let group = Group::started(3, 42).await;
        let leader = group.leader().await;
        let follower = group.follower().await;
        let node = group.node(leader);
        let refused = |result: Result<(), AdminError>| match result {
            Err(AdminError::Refused(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(refused(node.promote(NodeId(9)).await).contains("no member"));
        assert!(refused(node.add_learner(member(follower.0)).await).contains("voter already"));
        let taken = Member { id: NodeId(9), address: format!("sim:{follower}") };
        assert!(refused(node.add_learner(taken).await).contains("is node"));
        assert!(refused(node.remove(NodeId(9)).await).contains("no member"));
        let elsewhere = group.node(follower).add_learner(member(9)).await;
        assert_eq!(elsewhere, Err(AdminError::NotLeader { this: follower, leader: Some(leader) }));
    });
}

#[test]
fn bootstrapping_again_changes_nothing() {
    story(|| async {
        let group = Group::started(3, 43).await;
        group.put(NodeId(1), "k", "v").await;
        group.node(NodeId(1)).bootstrap(vec![member(1)]).await.unwrap();
        assert_eq!(group.node(NodeId(1)).status().voters.len(), 3);
        let without = group.node(NodeId(2)).bootstrap(vec![member(1)]).await;
        assert!(matches!(without, Err(AdminError::Refused(_))), "{without:?}");
    });
}
