//! The crate `leader` under two hundred drawn plans: no violation, and the rare paths were taken.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use integration_tests::mark::MARKS;
use integration_tests::sweep::{Length, Line, Subject, Summary};
use integration_tests::world::Options;

const SEEDS: u64 = 200;

/// Marks of paths that these plans do not take: no member is added, and no token is shown, before
/// the strategy offers that.
const NOT_YET: &[&str] = &[];

/// Runs seeds on all cores: a seed is one run, whatever runs beside it.
fn sweep() -> Summary {
    let next = AtomicU64::new(0);
    let summary = Mutex::new(Summary::default());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|threads| {
        for _ in 0..workers {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= SEEDS {
                        return;
                    }
                    let report =
                        Subject::Leader.run(&Length::Short.plan(seed), &Options::default());
                    let line = Line::of(&report);
                    summary.lock().unwrap_or_else(PoisonError::into_inner).add(line);
                }
            });
        }
    });
    summary.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn two_hundred_seeds_have_no_violation_and_take_the_rare_paths() {
    let summary = sweep();
    println!("{summary}");
    for line in &summary.failed {
        for (_, said) in &line.failures {
            println!("\nseed {}: {said}\nrepeat with: cargo sim --seed {}", line.seed, line.seed);
        }
    }
    assert!(summary.failed.is_empty(), "{} seeds of {SEEDS} failed", summary.failed.len());
    assert!(summary.undecided <= SEEDS / 20, "{} verdicts undecided", summary.undecided);
    assert!(summary.stats.claims > SEEDS && summary.stats.samples > SEEDS, "{}", summary.stats);
    let fired: BTreeSet<&str> = summary.marks.keys().map(String::as_str).collect();
    let never: Vec<_> = MARKS
        .iter()
        .flat_map(|marks| marks.names)
        .filter(|name| !fired.contains(*name) && !NOT_YET.contains(name))
        .collect();
    assert!(never.is_empty(), "paths that no seed took: {never:?}");
}
