//! The sweep notices planted bugs.

use common::mutant;

use crate::group::story;
use crate::sweep;

#[expect(clippy::disallowed_methods, reason = "mutants are selected per thread")]
fn killed(name: &'static str) -> bool {
    std::thread::spawn(move || {
        mutant::select(Some(name));
        for seed in 0..30 {
            story(|| async move { sweep::run(seed, 120).await.unwrap() });
        }
    })
    .join()
    .is_err()
}

#[test]
fn an_ignored_context_is_noticed() {
    assert!(killed("context_ignored"));
}

#[test]
fn a_read_repair_that_overwrites_is_noticed() {
    assert!(killed("repair_overwrites_siblings"));
}

#[test]
fn a_tombstone_dropped_early_is_noticed() {
    assert!(killed("tombstone_dropped_early"));
}

#[test]
fn a_write_acknowledged_one_owner_early_is_noticed() {
    assert!(killed("acked_at_w_minus_1"));
}

#[test]
fn a_dot_used_again_after_a_crash_is_noticed() {
    assert!(killed("dot_reused_after_wipe"));
}
