//! Quotas: growth is refused before it is proposed, everything else passes, and all members count alike.

use std::time::Duration;

use common::outcome::{HasOutcome, Outcome};
use leader::key_value::{Command, Deadline, Operation};
use leader::quota::{Fullness, Limit, Measure, Quota, Usage};
use leader::{Event, WriteError};

use crate::group::{Group, PATIENCE, patient, story};

const KEYS: u64 = 20;

fn limited(soft: u64, hard: u64) -> Limit {
    Limit { soft: Some(soft), hard: Some(hard) }
}

/// Fills a group until a write is refused, and returns the refusal.
async fn fill(group: &Group, key: &str) -> WriteError {
    for n in 0..100 {
        let on = group.ids()[n % group.ids().len()];
        let put = Command::put(format!("{key}/{n:03}"), "some value");
        if let Err(error) = group.node(on).write(put, patient()).await {
            return error;
        }
    }
    panic!("nothing was refused");
}

async fn usage_is_equal_and_right(group: &Group) -> Usage {
    group.converge().await;
    let mut all = Vec::new();
    for id in group.running() {
        let (said, counted) = group.node(id).audit_usage().unwrap();
        assert_eq!(said, counted, "on {id}");
        assert_eq!(group.node(id).status().usage, said, "on {id}");
        all.push(said);
    }
    assert!(all.iter().all(|usage| *usage == all[0]), "{all:?}");
    all[0]
}

/// Behaviour 18 of the design, for quotas.
#[test]
fn growth_over_a_hard_quota_is_not_applied_and_deletes_pass() {
    story(|| async {
        let group = Group::new(3, 300).with(|config| {
            config.quota = Quota { keys: limited(15, KEYS), ..Quota::default() };
        });
        let group = group.start_all().await;
        let (leader, follower) = (group.leader().await, group.follower().await);
        let mut events = group.node(follower).events();
        let refused = fill(&group, "a").await;
        let WriteError::OverQuota(why) = &refused else { panic!("{refused}") };
        assert_eq!((why.measure, why.limit), (Measure::Keys, KEYS));
        assert_eq!(refused.outcome(), Outcome::NotApplied);
        assert_eq!(usage_is_equal_and_right(&group).await.keys, KEYS);
        assert!(group.node(leader).status().quota_refused > 0);
        for on in [leader, follower] {
            let write = async |command| group.node(on).write(command, patient()).await;
            assert!(write(Command::put("new", "key")).await.is_err());
            // What is there may change, also together with what makes room for something new.
            write(Command::put("a/001", "another value, and a longer one")).await.unwrap();
            write(Operation::get("a/001").into()).await.unwrap();
            let then = vec![Operation::delete("a/001"), Operation::put("a/001", "again")];
            let both = Command::Transaction { compare: vec![], then, or_else: vec![] };
            write(both).await.unwrap();
        }
        group.node(follower).write(Command::delete("a/000"), patient()).await.unwrap();
        group.put(follower, "new", "fits now").await;
        for n in 0..10 {
            group
                .node(leader)
                .write(Command::delete(format!("a/{n:03}")), patient())
                .await
                .unwrap();
        }
        assert_eq!(usage_is_equal_and_right(&group).await.keys, KEYS - 9);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let Event::Quota { fullness, .. } = event {
                told.push(fullness);
            }
        }
        assert!(told.ends_with(&[Fullness::Within]), "{told:?}");
        assert!(told.contains(&Fullness::Full) || told.contains(&Fullness::Warned), "{told:?}");
    });
}

#[test]
fn bytes_stay_within_their_quota_through_failovers_and_expiry_makes_room() {
    story(|| async {
        const HARD: u64 = 4_000;
        let group = Group::new(3, 301).with(|config| {
            config.quota = Quota { bytes: limited(3_000, HARD), ..Quota::default() };
        });
        let mut group = group.start_all().await;
        let deadline = Deadline::After(Duration::from_secs(5));
        for n in 0..20 {
            let set = Command::Set { key: format!("e/{n}").into(), value: "v".into(), deadline };
            group.node(group.follower().await).write(set, patient()).await.unwrap();
        }
        for round in 0..3 {
            let refused = fill(&group, &format!("round {round}")).await;
            assert!(matches!(refused, WriteError::OverQuota(_)), "{refused}");
            assert!(usage_is_equal_and_right(&group).await.bytes <= HARD);
            let leader = group.leader().await;
            group.unplug(leader);
            group.leader().await;
            group.start(leader).await;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let expired = usage_is_equal_and_right(&group).await;
        assert!(expired.bytes < HARD - 500, "{expired:?}");
        group.put(group.leader().await, "fits", "again").await;
    });
}

/// Many writers at once: what is under way counts, too.
#[test]
fn a_crowd_does_not_pass_the_limit_together() {
    story(|| async {
        let group = Group::new(3, 302).with(|config| {
            config.quota = Quota { keys: limited(KEYS, KEYS), ..Quota::default() };
        });
        let group = group.start_all().await;
        let writes = (0..200).map(|n| {
            let on = group.node(group.ids()[n % 3]);
            on.write(Command::put(format!("key {n}"), "value"), patient())
        });
        let done = futures::future::join_all(writes).await;
        let taken = done.iter().filter(|done| done.is_ok()).count() as u64;
        let refused = |done: &Result<_, WriteError>| matches!(done, Err(WriteError::OverQuota(_)));
        assert!(done.iter().all(|done| done.is_ok() || refused(done)), "{done:?}");
        assert_eq!(usage_is_equal_and_right(&group).await.keys, taken);
        assert!((1..=KEYS).contains(&taken), "{taken}");
    });
}

#[test]
fn a_quota_is_changed_for_all_members_and_stays_in_snapshots() {
    story(|| async {
        let mut group = Group::started(3, 303).await;
        let quota = Quota { keys: Limit { soft: None, hard: Some(5) }, ..Quota::default() };
        let wrong = Quota { keys: limited(6, 5), ..Quota::default() };
        let follower = group.follower().await;
        assert!(group.node(follower).set_quota(wrong, PATIENCE).await.is_err());
        group.node(follower).set_quota(quota, PATIENCE).await.unwrap();
        assert!(matches!(fill(&group, "a").await, WriteError::OverQuota(_)));
        for id in group.ids() {
            group.node(id).checkpoint().await.unwrap();
            group.unplug(id);
            group.start(id).await;
        }
        group.leader().await;
        assert_eq!(usage_is_equal_and_right(&group).await.keys, 5);
        for id in group.ids() {
            assert_eq!(group.node(id).status().quota, quota, "on {id}");
        }
        group.node(follower).set_quota(Quota::default(), PATIENCE).await.unwrap();
        group.put(follower, "one", "more").await;
    });
}
