//! The reading side of [`common::sometimes!`]: which rare paths a sweep took.
//!
//! A mark that no seed fires is a path that no seed tests. The table lists the marks that are
//! placed or will be; a test compares it with the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The marks of a crate.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// The crate's folder.
    pub krate: &'static str,
    /// Their names.
    pub names: &'static [&'static str],
}

/// Every mark, by crate.
pub const MARKS: [Marks; 2] = [
    Marks {
        krate: "common",
        names: &[
            "corruption-refused",
            "deadline-passed-in-queue",
            "engine-replayed",
            "engine-wiped",
            "frame-refused",
            "group-over-8",
            "log-poisoned",
            "segment-rolled",
            "token-waited",
            "torn-tail-cut",
        ],
    },
    Marks {
        krate: "leader",
        names: &[
            "committed-without-leader-disk",
            "dedup-hit-after-failover",
            "early-ack-lost",
            "follower-read-waited",
            "joint-config-interrupted",
            "leader-changed-during-snapshot",
            "lease-refused-write",
            "log-truncated",
            "lost-ack-recorded-at-purge",
            "pre-vote-rejected",
            "snapshot-over-log",
            "transfer-completed",
        ],
    },
];

/// Which marks the seeds of a sweep have fired, and how often.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    seeds: u64,
    fired: BTreeMap<String, u64>,
}

impl Coverage {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what fired on this thread before a run.
    pub fn reset() {
        let _ = common::mark::take();
    }

    /// Takes what fired on this thread since [`Coverage::reset`] as one seed's marks.
    pub fn note_run(&mut self) -> BTreeSet<&'static str> {
        let fired = common::mark::take();
        self.seeds += 1;
        for name in &fired {
            *self.fired.entry((*name).to_owned()).or_default() += 1;
        }
        fired
    }

    /// Adds what another worker has seen.
    pub fn merge(&mut self, other: &Self) {
        self.seeds += other.seeds;
        for (name, seeds) in &other.fired {
            *self.fired.entry(name.clone()).or_default() += seeds;
        }
    }

    /// In how many seeds a mark fired.
    pub fn seeds_with(&self, name: &str) -> u64 {
        self.fired.get(name).copied().unwrap_or(0)
    }

    /// Marks of the table that no seed fired.
    pub fn missing(&self) -> Vec<&'static str> {
        let all = MARKS.iter().flat_map(|m| m.names);
        all.copied().filter(|name| self.seeds_with(name) == 0).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for marks in &MARKS {
            for name in marks.names {
                let seeds = self.seeds_with(name);
                writeln!(f, "{:10} {name:32} {seeds:6} of {} seeds", marks.krate, self.seeds)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_counts_seeds_not_firings() {
        Coverage::reset();
        let mut sweep = Coverage::new();
        for _ in 0..5 {
            common::sometimes!("segment-rolled");
        }
        sweep.note_run();
        common::sometimes!("log-truncated");
        sweep.note_run();
        let mut all = sweep.clone();
        all.merge(&sweep);
        assert_eq!((all.seeds, all.seeds_with("segment-rolled")), (4, 2));
        assert!(!all.missing().contains(&"log-truncated"));
        assert!(all.missing().contains(&"torn-tail-cut"));
        assert!(all.to_string().contains("segment-rolled"));
    }

    /// Names in `sometimes!("...")` under a folder.
    fn placed(folder: &std::path::Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                placed(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("mark.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for after in text.split("sometimes!(").skip(1) {
                    let name = after.trim_start().strip_prefix('"').and_then(|a| a.split_once('"'));
                    let name = name.unwrap_or_else(|| panic!("no literal in {}", path.display()));
                    found.insert(name.0.to_owned());
                }
            }
        }
    }

    #[test]
    fn every_mark_in_the_sources_is_in_the_table_of_its_crate() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for marks in &MARKS {
            let mut found = BTreeSet::new();
            placed(&root.join(marks.krate).join("src"), &mut found);
            let known: BTreeSet<String> = marks.names.iter().map(ToString::to_string).collect();
            let unknown: Vec<_> = found.difference(&known).collect();
            assert!(unknown.is_empty(), "add to MARKS in mark.rs ({}): {unknown:?}", marks.krate);
        }
    }
}
