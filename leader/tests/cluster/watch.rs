//! The change feed: complete, in order, the same everywhere, or it says that it is not.

use std::collections::BTreeMap;
use std::time::Duration;

use common::env::{Rng, SplitMix64};
use common::ids::{LogPos, NodeId};
use leader::key_value::{Command, Condition, Deadline, KeyValue, Operation};
use leader::watch::{
    Change, Changes, Filter, Hold, HoldError, Watch, WatchError, WatchFrom, Watched,
};
use leader::{Broken, Event, Node, ReadLevel, ReadOptions, ReplicationMode, WriteOptions};

use crate::group::{Group, PATIENCE, patient, story};

fn short_log(config: &mut leader::Config) {
    config.keep_entries = 10;
    config.checkpoint_bytes = 64 << 10;
    config.wal.segment_bytes = 16 << 10;
}

fn all(node: &Node<KeyValue>, from: WatchFrom) -> Watch {
    node.watch(from, Filter::default()).unwrap()
}

/// What a watcher is told until nothing has come for a while, or until its error.
async fn drain(watch: &mut Watch) -> (Vec<Changes>, Result<LogPos, WatchError>) {
    let mut told = Vec::new();
    loop {
        match watch.next().await {
            Ok(Watched::Changes(changes)) => told.push(changes),
            Ok(Watched::Progress(at)) => return (told, Ok(at)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => return (told, Err(error)),
        }
    }
}

/// Everything that a node tells, from the start of its log.
async fn whole(node: &Node<KeyValue>) -> Vec<Changes> {
    let (told, end) = drain(&mut all(node, WatchFrom::Start)).await;
    assert_eq!(end, Ok(node.status().applied.unwrap()));
    told
}

fn flat(told: &[Changes]) -> Vec<Change> {
    told.iter().flat_map(|entry| entry.list.iter().map(|(_, change)| change.clone())).collect()
}

fn put(key: &str, value: &str) -> Change {
    Change::Put { key: key.to_owned().into(), value: value.to_owned().into() }
}

/// What the changes amount to.
fn replayed(told: &[Changes]) -> BTreeMap<String, String> {
    let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let mut state = BTreeMap::new();
    for change in flat(told) {
        match change {
            Change::Put { key, value } => drop(state.insert(text(key), text(value))),
            Change::Deleted { key } | Change::Expired { key } => drop(state.remove(&text(key))),
            other => panic!("{other:?}"),
        }
    }
    state
}

/// A command that may or may not change something.
fn some_command(rng: &SplitMix64, number: u64) -> Command {
    let key = format!("k{}", rng.next_u64() % 8);
    let value = format!("v{number}");
    match rng.next_u64() % 8 {
        0 => Command::delete(key),
        1 => Command::put_if(key, value, Condition::IfAbsent),
        2 => Command::put_if(key, value, Condition::IfPresent),
        3 => Command::Set {
            key: key.into(),
            value: value.into(),
            deadline: Deadline::After(Duration::from_millis(300)),
        },
        4 => Command::Transaction {
            compare: Vec::new(),
            then: vec![Operation::put(key, value), Operation::delete("k0")],
            or_else: Vec::new(),
        },
        5 => Command::append(key, "+"),
        _ => Command::put(key, value),
    }
}

/// Leaders come and go under writers that repeat what they have no answer for.
async fn turmoil(seed: u64) -> Group {
    let mut group = Group::started(3, seed).await;
    let rng = SplitMix64::new(seed);
    for number in 0..120 {
        let ids = group.running();
        let on = ids[(rng.next_u64() % ids.len() as u64) as usize];
        let node = group.node(on);
        let _ = node.write(some_command(&rng, number), patient()).await;
        group.add(on, "n").await;
        match rng.next_u64() % 20 {
            0 => {
                let leader = group.leader().await;
                let _ = group.node(leader).transfer(None).await;
            }
            1 => {
                let leader = group.leader().await;
                group.unplug(leader);
                group.leader().await;
                group.start(leader).await;
            }
            2 => {
                let leader = group.leader().await;
                group.net.reset(leader, on);
            }
            _ => {}
        }
    }
    // Until every deadline has passed and been swept.
    tokio::time::sleep(Duration::from_secs(1)).await;
    group.converge().await;
    group
}

/// Design, behaviour 19.
#[test]
fn all_members_tell_the_same_and_it_amounts_to_the_state() {
    for seed in 700..706 {
        story(|| async {
            let group = turmoil(seed).await;
            let told = whole(&group.node(NodeId(1))).await;
            for id in group.ids() {
                assert_eq!(whole(&group.node(id)).await, told, "{id} of {seed}");
            }
            assert!(told.is_sorted_by(|a, b| a.at.index < b.at.index));
            let state = replayed(&told);
            for number in 0..8 {
                let key = format!("k{number}");
                assert_eq!(group.get(NodeId(2), &key).await, state.get(&key).cloned(), "{key}");
            }
            // Each increment took place once, and is told once.
            let counted = flat(&told).into_iter().filter(|c| c.key().unwrap() == "n");
            let expected: Vec<_> = (1..=120).map(|n| put("n", &n.to_string())).collect();
            assert_eq!(counted.collect::<Vec<_>>(), expected);
        });
    }
}

#[test]
fn a_watcher_goes_on_at_any_member_with_the_last_position() {
    story(|| async {
        let group = turmoil(710).await;
        let told = whole(&group.node(NodeId(1))).await;
        for (number, last) in told.iter().enumerate() {
            let on = group.node(NodeId(number as u64 % 3 + 1));
            let (rest, _) = drain(&mut all(&on, WatchFrom::After(last.at))).await;
            assert_eq!(rest, told[number + 1..], "after {:?}", last.at);
        }
        // Only some keys, and the same positions.
        let filter = Filter::prefix("n");
        let mut some = group.node(NodeId(3)).watch(WatchFrom::Start, filter).unwrap();
        let (some, end) = drain(&mut some).await;
        assert_eq!(some.len(), 120);
        assert_eq!(end, Ok(group.node(NodeId(3)).status().applied.unwrap()));
        // What is no position of this history is refused.
        let LogPos { term, index } = told[5].at;
        let wrong = LogPos { term: term + 1, index };
        let (_, end) = drain(&mut all(&group.node(NodeId(1)), WatchFrom::After(wrong))).await;
        assert_eq!(end, Err(WatchError::Unknown { at: wrong }));
    });
}

#[test]
fn a_watcher_waits_for_news_and_for_what_its_node_has_not_yet() {
    story(|| async {
        let group = Group::started(3, 711).await;
        let (leader, follower) = (group.leader().await, group.follower().await);
        let mut here = all(&group.node(follower), WatchFrom::Now);
        group.net.isolate(follower);
        let written = group.node(leader).write(Command::put("a", "1"), patient()).await.unwrap();
        let mut ahead = all(&group.node(follower), WatchFrom::After(written.at));
        let waits = tokio::time::timeout(Duration::from_secs(3), ahead.next()).await;
        assert!(waits.is_err(), "no progress is told before the position is reached: {waits:?}");
        group.net.rejoin(follower);
        group.put(leader, "b", "2").await;
        let (first, second) = (next(&mut here).await, next(&mut here).await);
        assert_eq!(flat(&[first.clone(), second.clone()]), [put("a", "1"), put("b", "2")]);
        assert_eq!(first.at, written.at);
        assert_eq!(next(&mut ahead).await, second);
        // A node that stops says so.
        group.node(follower).shutdown().await;
        assert_eq!(drain(&mut here).await.1, Err(WatchError::Stopping(follower)));
    });
}

async fn next(watch: &mut Watch) -> Changes {
    loop {
        if let Watched::Changes(changes) = watch.next().await.unwrap() {
            return changes;
        }
    }
}

/// What a failover takes back was never told.
#[test]
fn only_what_is_committed_is_told() {
    story(|| async {
        let group = Group::started(3, 712).await;
        let old = group.leader().await;
        let other = group.ids().into_iter().find(|id| *id != old).unwrap();
        group.put(old, "before", "1").await;
        group.converge().await;
        let mut watch = all(&group.node(old), WatchFrom::Start);
        assert_eq!(flat(&[next(&mut watch).await]), [put("before", "1")]);
        group.net.isolate(old);
        for number in 0..10 {
            let mut options = WriteOptions::mode(ReplicationMode::Async);
            options.timeout = Duration::from_millis(200);
            let set = Command::set(format!("lost {number}"), "x");
            group.node(old).write(set, options).await.unwrap();
        }
        let (told, _) = drain(&mut watch).await;
        assert_eq!(told, [], "nothing of it is committed");
        group.put(other, "after", "2").await;
        group.net.rejoin(old);
        assert_eq!(flat(&[next(&mut watch).await]), [put("after", "2")]);
    });
}

async fn fill(group: &Group, on: NodeId, from: u64, count: u64) {
    for number in from..from + count {
        group.put(on, &format!("k{number}"), &"v".repeat(100)).await;
    }
}

/// Checkpoints, and waits until the changes before it are gone.
async fn compact(node: &Node<KeyValue>) -> LogPos {
    node.checkpoint().await.unwrap();
    loop {
        if let (_, Err(WatchError::Compacted { oldest, after: None })) =
            drain(&mut all(node, WatchFrom::Start)).await
        {
            return oldest.unwrap();
        }
    }
}

#[test]
fn what_was_purged_is_a_gap_that_is_told() {
    story(|| async {
        let mut group = Group::new(1, 713).with(short_log).start_all().await;
        let node = group.node(NodeId(1));
        let mut slow = all(&node, WatchFrom::Start);
        fill(&group, NodeId(1), 0, 1).await;
        let mut told = vec![next(&mut slow).await];
        // A watcher that takes nothing loses nothing while the log is there.
        fill(&group, NodeId(1), 1, 299).await;
        told.extend(drain(&mut slow).await.0);
        assert_eq!(replayed(&told).len(), 300);
        // Then it falls behind what is kept.
        fill(&group, NodeId(1), 300, 100).await;
        let at = slow.position();
        let oldest = compact_past(&node, at).await;
        let gap = WatchError::Compacted { after: at, oldest: Some(oldest) };
        assert_eq!(drain(&mut slow).await, (Vec::new(), Err(gap.clone())));
        assert_eq!(slow.next().await, Err(gap), "and again");
        let (rest, _) = drain(&mut all(&node, WatchFrom::After(oldest))).await;
        let keys: Vec<_> = flat(&rest).iter().map(|c| c.key().unwrap().clone()).collect();
        let last: Vec<_> = (400 - keys.len()..400).map(|n| format!("k{n}").into_bytes()).collect();
        assert_eq!(keys, last);
        assert!(keys.len() >= 10, "{} entries are kept", keys.len());
        // The gap is there after a power loss, too, and nothing else is.
        group.unplug(NodeId(1));
        let node = group.start(NodeId(1)).await;
        group.leader().await;
        let (_, end) = drain(&mut all(&node, WatchFrom::Start)).await;
        assert_eq!(end, Err(WatchError::Compacted { after: None, oldest: Some(oldest) }));
        assert_eq!(drain(&mut all(&node, WatchFrom::After(oldest))).await.0, rest);
    });
}

#[test]
fn a_snapshot_is_a_gap_that_is_told() {
    story(|| async {
        let mut group = Group::new(3, 714).with(short_log).start_all().await;
        let away = group.follower().await;
        let leader = group.leader().await;
        fill(&group, leader, 0, 5).await;
        group.converge().await;
        let before = whole(&group.node(away)).await;
        group.kill(away);
        let leader = group.leader().await;
        fill(&group, leader, 5, 400).await;
        let oldest = compact(&group.node(leader)).await;
        assert!(oldest.index > before[4].at.index);
        let node = group.start(away).await;
        let mut watch = all(&node, WatchFrom::After(before[2].at));
        group.put(leader, "last", "one").await;
        group.converge().await;
        let (told, end) = drain(&mut watch).await;
        assert!(before[3..].starts_with(&told), "nothing is told from behind a gap: {told:?}");
        let Err(WatchError::Compacted { oldest: Some(oldest), .. }) = end else {
            panic!("{end:?}");
        };
        assert!(node.status().snapshot.is_some());
        let (rest, _) = drain(&mut all(&node, WatchFrom::After(oldest))).await;
        assert_eq!(flat(&rest).last(), Some(&put("last", "one")));
        let others = drain(&mut all(&group.node(leader), WatchFrom::After(oldest))).await.0;
        assert_eq!(rest, others);
        for _ in 0..2 {
            group.unplug(away);
            let node = group.start(away).await;
            group.converge().await;
            let (_, end) = drain(&mut all(&node, WatchFrom::After(before[4].at))).await;
            assert!(matches!(end, Err(WatchError::Compacted { .. })), "{end:?}");
        }
    });
}

fn hold(after: LogPos, max_bytes: u64, lasts: Duration) -> Hold {
    Hold { name: "mine".into(), after, max_bytes, lasts }
}

/// The reason that the next broken hold is told with.
async fn broken(events: &mut tokio::sync::broadcast::Receiver<Event>) -> Broken {
    loop {
        if let Event::HoldBroken { name, broken, .. } = events.recv().await.unwrap() {
            assert_eq!(name, "mine");
            return broken;
        }
    }
}

#[test]
fn a_hold_keeps_the_log_until_its_cap_breaks_it() {
    story(|| async {
        let group = Group::new(1, 715).with(short_log).start_all().await;
        let node = group.node(NodeId(1));
        let mut events = node.events();
        fill(&group, NodeId(1), 0, 50).await;
        let after = whole(&node).await[20].at;
        let mut watch = all(&node, WatchFrom::After(after));
        let hour = Duration::from_secs(3600);
        let refused = node.hold(hold(after, 64 << 10, hour)).unwrap_err();
        assert!(matches!(refused, HoldError::Cap { .. }), "{refused}");
        node.hold(hold(after, 200 << 10, hour)).unwrap();
        fill(&group, NodeId(1), 50, 200).await;
        let oldest = compact(&node).await;
        assert_eq!(oldest, after, "everything up to the hold may go, and nothing behind it");
        let told = drain(&mut watch).await.0;
        assert!(!told.is_empty());
        // It moves with its owner, and never back to what is gone.
        let moved = told[100].at;
        node.hold(hold(moved, 200 << 10, hour)).unwrap();
        let refused = node.hold(hold(LogPos::default(), 200 << 10, hour)).unwrap_err();
        assert!(matches!(refused, HoldError::Compacted { .. }), "{refused}");
        assert_eq!(node.holds(), [hold(moved, 200 << 10, hour)]);
        // A consumer that is gone for too long does not fill the disk.
        let mut watch = all(&node, WatchFrom::After(moved));
        fill(&group, NodeId(1), 250, 1_000).await;
        let Broken::OverCap { log_bytes } = broken(&mut events).await else { panic!() };
        assert!(log_bytes > 200 << 10);
        assert_eq!(node.holds(), []);
        compact(&node).await;
        let small = node.wait_until(PATIENCE, |s| s.disk.bytes < 200 << 10).await;
        assert!(small.is_ok(), "{small:?}");
        let (told, end) = drain(&mut watch).await;
        assert_eq!(told, []);
        assert!(matches!(end, Err(WatchError::Compacted { .. })), "{end:?}");
    });
}

#[test]
fn a_hold_that_nobody_renews_or_that_is_released_ends() {
    story(|| async {
        let group = Group::new(1, 716).with(short_log).start_all().await;
        let node = group.node(NodeId(1));
        let mut events = node.events();
        fill(&group, NodeId(1), 0, 50).await;
        let after = whole(&node).await[1].at;
        node.hold(hold(after, 1 << 20, Duration::from_secs(5))).unwrap();
        for round in 1..5 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            node.hold(hold(after, 1 << 20, Duration::from_secs(5))).unwrap();
            fill(&group, NodeId(1), 50 * round, 50).await;
            assert_eq!(compact(&node).await, after);
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        compact_past(&node, Some(after)).await;
        assert_eq!(broken(&mut events).await, Broken::Expired);
        let after = drain(&mut all(&node, WatchFrom::Now)).await.1.unwrap();
        node.hold(hold(after, 1 << 20, Duration::from_secs(3600))).unwrap();
        fill(&group, NodeId(1), 300, 50).await;
        let held = LogPos { index: after.index - 1, ..after };
        assert_eq!(compact_past(&node, Some(held)).await, after);
        assert!(node.release("mine") && !node.release("mine"));
        fill(&group, NodeId(1), 350, 50).await;
        compact_past(&node, Some(after)).await;
    });
}

/// Compacts until the changes behind a position are gone.
async fn compact_past(node: &Node<KeyValue>, at: Option<LogPos>) -> LogPos {
    loop {
        let oldest = compact(node).await;
        if Some(oldest) > at {
            return oldest;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn a_member_without_a_feed_says_so_and_begins_one_with_a_gap() {
    story(|| async {
        let mut group = Group::new(1, 717).with(|config| config.change_feed = false);
        group.start(NodeId(1)).await;
        let node = group.node(NodeId(1));
        let member = leader::Member { id: NodeId(1), address: "sim:1".into() };
        node.bootstrap(vec![member]).await.unwrap();
        group.leader().await;
        fill(&group, NodeId(1), 0, 10).await;
        assert_eq!(node.watch(WatchFrom::Now, Filter::default()).unwrap_err(), WatchError::Off);
        let view = node.view(ReadOptions::level(ReadLevel::Strong)).await.unwrap();
        node.checkpoint().await.unwrap();
        group.kill(NodeId(1));
        let mut group = group.with(|_| {});
        let node = group.start(NodeId(1)).await;
        group.leader().await;
        fill(&group, NodeId(1), 10, 1).await;
        let (told, end) = drain(&mut all(&node, WatchFrom::Start)).await;
        assert_eq!(told, []);
        let Err(WatchError::Compacted { oldest: Some(oldest), .. }) = end else {
            panic!("{end:?}")
        };
        assert!(oldest >= view.applied());
        let (rest, _) = drain(&mut all(&node, WatchFrom::After(oldest))).await;
        assert_eq!(flat(&rest).len(), 1);
    });
}
