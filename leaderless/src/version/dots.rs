//! A set of one actor's dots, as runs.

use serde::{Deserialize, Serialize};

/// A set of numbers from 1 on, as sorted runs of neighbours: the run that begins at 1 is the
/// *base*, the others lie above gaps. A replica that misses nothing has one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>")]
pub struct Dots(Vec<(u64, u64)>);

impl From<Vec<(u64, u64)>> for Dots {
    /// Input from anywhere becomes a proper set: sorted, joined, without empty runs.
    fn from(runs: Vec<(u64, u64)>) -> Self {
        let mut out = Self::default();
        for (first, last) in runs {
            out.add_run(first, last);
        }
        out
    }
}

impl Dots {
    /// The empty set.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// All numbers up to `last`.
    pub fn upto(last: u64) -> Self {
        Self::from(vec![(1, last)])
    }

    /// The number up to which all are in the set.
    pub fn base(&self) -> u64 {
        self.0.first().filter(|(first, _)| *first == 1).map_or(0, |(_, last)| *last)
    }

    /// The largest number in the set, 0 when it is empty.
    pub fn top(&self) -> u64 {
        self.0.last().map_or(0, |(_, last)| *last)
    }

    /// How many runs it has.
    pub fn runs(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no numbers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers it has.
    pub fn len(&self) -> u64 {
        self.0
            .iter()
            .fold(0_u64, |n, (first, last)| n.saturating_add((last - first).saturating_add(1)))
    }

    /// Whether the number is in the set.
    pub fn contains(&self, n: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= n);
        after > 0 && self.0[after - 1].1 >= n
    }

    /// Adds a number.
    pub fn add(&mut self, n: u64) {
        self.add_run(n, n);
    }

    /// Adds the numbers from `first` to `last`.
    pub fn add_run(&mut self, first: u64, last: u64) {
        let first = first.max(1);
        if first > last {
            return;
        }
        // Runs that touch or overlap the new one.
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(begin, _)| *begin <= last.saturating_add(1));
        let merged = self.0[from..to]
            .iter()
            .fold((first, last), |(f, l), (begin, end)| (f.min(*begin), l.max(*end)));
        self.0.splice(from..to, [merged]);
    }

    /// Adds every number of `other`.
    pub fn join(&mut self, other: &Self) {
        for (first, last) in &other.0 {
            self.add_run(*first, *last);
        }
    }

    /// The numbers that are in both.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let mut out = Vec::new();
        let (mut i, mut j) = (0, 0);
        while let (Some(a), Some(b)) = (self.0.get(i), other.0.get(j)) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                out.push((first, last));
            }
            if a.1 <= b.1 {
                i += 1;
            } else {
                j += 1;
            }
        }
        Self(out)
    }

    /// The numbers that are not in it.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut out = Vec::new();
        let mut next = 1_u64;
        for (first, last) in &self.0 {
            if next < *first {
                out.push((next, first - 1));
            }
            if *last == u64::MAX {
                return Self(out);
            }
            next = last + 1;
        }
        out.push((next, u64::MAX));
        Self(out)
    }

    /// The numbers that are here and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.meet(&other.complement())
    }

    /// Whether every number of `other` is in it.
    pub fn includes(&self, other: &Self) -> bool {
        other.minus(self).is_empty()
    }

    /// The numbers in order, at most `limit`.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// The runs in order.
    pub fn as_runs(&self) -> &[(u64, u64)] {
        &self.0
    }
}
