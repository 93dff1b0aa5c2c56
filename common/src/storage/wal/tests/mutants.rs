//! The planted bugs of the log: each is found by the crash points or the damage tests.

use super::bench::*;
use super::{crash, damage};
use crate::mutant;

/// Whether `test` fails with the mutant, on a thread of its own.
#[expect(clippy::disallowed_methods, reason = "mutants are selected per thread")]
fn fails<F: Future<Output = ()>>(
    name: Option<&'static str>,
    test: impl FnOnce() -> F + Send + 'static,
) -> bool {
    let thread = std::thread::spawn(move || {
        mutant::select(name);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(test());
    });
    thread.join().is_err()
}

async fn a_failed_sync_is_an_error() {
    let disk = sim_disk(1);
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    // Not one of the keeper's.
    settle().await;
    disk.fail_next_sync();
    wal.append(vec![record(1, 10)], drop);
    assert!(wal.sync().await.is_err());
}

#[test]
fn every_planted_bug_is_found() {
    assert!(!fails(None, || crash::points(40)));
    assert!(fails(Some("ack_before_sync"), || crash::points(40)));
    assert!(!fails(None, a_failed_sync_is_an_error));
    assert!(fails(Some("failed_sync_retried"), a_failed_sync_is_an_error));
    assert!(!fails(None, damage::flipped_bits));
    assert!(fails(Some("torn_tail_accepted"), damage::flipped_bits));
    assert!(fails(Some("damage_in_the_middle_cut"), damage::flipped_bits));
}
