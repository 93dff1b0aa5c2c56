//! The reading side of [`common::sometimes!`]: which rare paths a sweep took.
//!
//! A mark that no seed fires is a path that no seed tests. The table lists all
//! marks; a test compares it with the sources, both ways.

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
            "group-over-8",
            "log-full",
            "log-poisoned",
            "segment-rolled",
            "torn-tail-cut",
        ],
    },
    Marks {
        krate: "leader",
        names: &[
            "dangerous-change-refused",
            "joint-change-finished",
            "learner-promoted",
            "member-replaced",
            "replacement-found-done",
            "snapshot-displaced",
            "snapshot-too-old",
            "voter-removed",
            "acknowledged-early",
            "ack-of-another-term-ignored",
            "append-refused-on-full-disk",
            "checkpointed",
            "command-withdrawn",
            "core-reopened",
            "dedup-hit",
            "disk-full-refused",
            "divergence-quarantined",
            "divergence-repaired",
            "late-append-void",
            "hold-broken",
            "log-cut-to-the-state",
            "log-resumed-behind-a-refused-record",
            "log-segments-released",
            "lost-state-taken-from-a-member",
            "proposal-overloaded",
            "quota-refused",
            "quota-weighed",
            "read-by-the-leader",
            "read-by-the-nearest",
            "read-not-waited-for",
            "read-waited-for-apply",
            "bounded-read-without-a-round",
            "reads-shared-a-round",
            "record-behind-a-refused-one-ignored",
            "session-gap",
            "snapshot-installed",
            "agent-asked-for-votes",
            "leadership-moved-by-the-agent",
            "rolled-back",
            "snapshot-resumed",
            "states-compared-equal",
            "swept",
            "transfer-completed",
            "vote-gate-closed",
            "watch-compacted",
            "write-forwarded",
            "write-unknown",
            "writer-went-back",
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
        common::sometimes!("dedup-hit");
        sweep.note_run();
        let mut all = sweep.clone();
        all.merge(&sweep);
        assert_eq!((all.seeds, all.seeds_with("segment-rolled")), (4, 2));
        assert!(!all.missing().contains(&"dedup-hit"));
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
    fn the_table_has_the_marks_of_the_sources() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for marks in &MARKS {
            let mut found = BTreeSet::new();
            placed(&root.join(marks.krate).join("src"), &mut found);
            let known: BTreeSet<String> = marks.names.iter().map(ToString::to_string).collect();
            assert_eq!(found, known, "left: in the sources of {}; right: MARKS", marks.krate);
        }
    }
}
