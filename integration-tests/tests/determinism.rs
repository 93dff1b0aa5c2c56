//! One seed is one run: in this process, in a fresh one, alone, at the end of a sweep, and on a
//! machine that is busy with something else.
//!
//! The control leaves tokio's own generator unseeded. If its runs were equal too, equal runs would
//! prove nothing.
#![expect(clippy::unwrap_used, reason = "a run that cannot be read has failed")]

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use integration_tests::sweep::{Length, Line, Subject};
use integration_tests::world::{Options, RuntimeSeed};

const SUBJECT: Subject = Subject::Leader;

fn here(seed: u64, runtime: RuntimeSeed) -> String {
    let options = Options { runtime, ..Options::default() };
    Line::of(&SUBJECT.run(&Length::Short.plan(seed), &options)).digest
}

/// The digests of `count` seeds in a process of their own.
fn elsewhere(from: u64, count: u64, more: &[&str]) -> Vec<(u64, String)> {
    let subject = SUBJECT.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["worker", "--step", "1", "--for", "3600", "--strategy", &subject])
        .args(["--from", &from.to_string(), "--count", &count.to_string()])
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Line>(line).unwrap());
    lines.map(|line| (line.seed, line.digest)).collect()
}

/// Keeps every core busy while something else is done.
fn beside_load<T>(work: impl FnOnce() -> T) -> T {
    /// Ends the load, also when the work panics.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) * 2 {
            threads.spawn(|| {
                let mut number = 1_u64;
                while !done.load(Ordering::Relaxed) {
                    number = std::hint::black_box(number.wrapping_mul(3));
                }
            });
        }
        let _done = Done(&done);
        work()
    })
}

#[test]
fn a_seed_is_one_run_in_any_process_alone_and_tenth_of_a_sweep() {
    let sweep = elsewhere(100, 10, &[]);
    assert_eq!(sweep.len(), 10);
    let (last, digest) = sweep[9].clone();
    assert_eq!(last, 109);
    assert_eq!(elsewhere(last, 1, &[]), [(last, digest.clone())], "alone in a fresh process");
    let loaded = beside_load(|| elsewhere(last, 1, &[]));
    assert_eq!(loaded, [(last, digest.clone())], "on a busy machine");
    assert_eq!(here(last, RuntimeSeed::Plan), digest, "in this process");
    assert_eq!(here(last, RuntimeSeed::Plan), digest, "again in this process");
    let different: BTreeSet<_> = sweep.iter().map(|(_, digest)| digest).collect();
    assert_eq!(different.len(), 10, "ten seeds are ten runs");
}

#[test]
fn without_a_seed_for_the_runtime_runs_differ() {
    let unseeded: BTreeSet<_> = (0..4).map(|_| here(109, RuntimeSeed::Machine)).collect();
    assert!(unseeded.len() > 1, "the control is equal too: the test above proves nothing");
    let fresh = elsewhere(109, 1, &["--unseeded"]);
    assert_ne!(fresh, [(109, here(109, RuntimeSeed::Plan))]);
}

#[test]
fn logging_changes_nothing() {
    let quiet = here(7, RuntimeSeed::Plan);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(std::io::sink)
        .finish();
    let loud = tracing::subscriber::with_default(subscriber, || here(7, RuntimeSeed::Plan));
    assert_eq!(quiet, loud);
}
