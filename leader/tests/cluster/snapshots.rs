//! A member that the log cannot help any more gets the whole state.

use std::time::Duration;

use crate::group::{Group, PATIENCE, story};

fn short_log(config: &mut leader::Config) {
    config.keep_entries = 10;
    config.snapshot_chunk_bytes = 512;
    config.wal.segment_bytes = 16 << 10;
}

#[test]
fn a_follower_behind_the_log_is_brought_up_by_a_snapshot() {
    story(|| async {
        let mut group = Group::new(3, 31).with(short_log).start_all().await;
        let away = group.follower().await;
        group.kill(away);
        let leader = group.leader().await;
        for i in 0..400 {
            group.put(leader, &format!("k{i}"), &"v".repeat(20)).await;
        }
        group.node(leader).checkpoint().await.unwrap();
        let purged = group.node(leader).wait_until(PATIENCE, |s| s.purged.is_some()).await;
        assert!(purged.is_ok(), "{purged:?}");
        let node = group.start(away).await;
        group.put(leader, "last", "one").await;
        assert_eq!(group.get(away, "last").await.as_deref(), Some("one"));
        for i in 0..400 {
            assert!(group.get(away, &format!("k{i}")).await.is_some(), "k{i}");
        }
        group.converge().await;
        assert!(node.status().snapshot.is_some());
        // What came by the snapshot is there after a power loss, too.
        group.unplug(away);
        group.start(away).await;
        assert_eq!(group.get(away, "k399").await, Some("v".repeat(20)));
        group.converge().await;
        assert_eq!(group.panics(), Vec::<String>::new());
    });
}

#[test]
fn a_snapshot_over_a_broken_link_goes_on_where_it_was() {
    story(|| async {
        let mut group = Group::new(3, 32).with(short_log).start_all().await;
        let away = group.follower().await;
        group.kill(away);
        let leader = group.leader().await;
        for i in 0..300 {
            group.put(leader, &format!("k{i}"), &"v".repeat(100)).await;
        }
        group.node(leader).checkpoint().await.unwrap();
        group.start(away).await;
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            group.net.reset(leader, away);
        }
        assert_eq!(group.get(away, "k299").await, Some("v".repeat(100)));
        group.converge().await;
    });
}

#[test]
fn sessions_are_part_of_a_snapshot() {
    story(|| async {
        let mut group = Group::new(3, 33).with(short_log).start_all().await;
        let away = group.follower().await;
        let leader = group.leader().await;
        let writer = group.ids().into_iter().find(|id| *id != leader && *id != away).unwrap();
        group.add(writer, "n").await;
        group.kill(away);
        for i in 0..200 {
            group.put(writer, &format!("k{i}"), "v").await;
        }
        group.node(leader).checkpoint().await.unwrap();
        group.start(away).await;
        group.converge().await;
        // The restored member must lead on with what the writer's session has done.
        group.node(leader).transfer(Some(away)).await.unwrap();
        assert_eq!(group.add(writer, "n").await, 2);
        assert_eq!(group.get(leader, "n").await.as_deref(), Some("2"));
    });
}

#[test]
fn checkpoints_come_by_themselves_and_let_the_log_go() {
    fn eager(config: &mut leader::Config) {
        short_log(config);
        config.checkpoint_bytes = 64 << 10;
    }
    story(|| async {
        let group = Group::new(1, 34).with(eager).start_all().await;
        let one = group.ids()[0];
        for i in 0..2_000 {
            group.put(one, &format!("k{}", i % 10), &"v".repeat(100)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let status = group.node(one).status();
        assert!(status.purged.is_some(), "{status:?}");
        assert!(status.disk.bytes < 200 << 10, "{status:?}");
    });
}
