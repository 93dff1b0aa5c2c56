//! A command takes effect once, however often it was sent.

use std::time::Duration;

use leader::key_value::Command;

use crate::group::{Group, patient, story};

#[test]
fn increments_under_leader_kills_count_exactly_once() {
    for seed in 0..8 {
        story(|| async move {
            let mut group = Group::started(3, 300 + seed).await;
            let writer = group.follower().await;
            let node = group.node(writer);
            let counting = tokio::spawn(async move {
                let mut total = 0;
                for _ in 0..300 {
                    let command = Command::increment("n", 1);
                    node.write(command, patient()).await.unwrap();
                    total += 1;
                    tokio::time::sleep(Duration::from_millis(7)).await;
                }
                total
            });
            while !counting.is_finished() {
                tokio::time::sleep(Duration::from_millis(900)).await;
                let leader = group.leader().await;
                if leader != writer {
                    group.kill(leader);
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    group.start(leader).await;
                }
            }
            let total: i64 = counting.await.unwrap();
            let value = group.get(writer, "n").await.unwrap();
            assert_eq!(value, total.to_string());
            group.converge().await;
        });
    }
}

#[test]
fn a_lost_answer_is_asked_for_again_and_applied_once() {
    story(|| async {
        let group = Group::started(3, 21).await;
        let leader = group.leader().await;
        let writer = group.follower().await;
        group.add(writer, "n").await;
        // Requests arrive, answers do not.
        group.net.cut(leader, writer);
        let node = group.node(writer);
        let write = node.write(Command::increment("n", 1), patient());
        tokio::time::sleep(Duration::from_millis(300)).await;
        group.net.heal_all();
        write.await.unwrap();
        assert_eq!(group.get(writer, "n").await.as_deref(), Some("2"));
    });
}
