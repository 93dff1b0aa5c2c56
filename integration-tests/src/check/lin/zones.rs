//! Registers with unique values in O(n log n): the zones of Gibbons and Korach 1997.
//!
//! All steps that mention one value form its cluster, which must be contiguous in any order. A
//! cluster's zone lies between its earliest return `f` and its latest invocation `s`. If `f < s` the
//! register certainly holds the value all that time. An order exists exactly if no two such zones
//! overlap and no other cluster lies inside one of them.
//!
//! With compare-and-set the test remains necessary: a swap that took is split into a read of what it
//! expected and a write. A violation is one, a pass still needs the search.

use super::step::{OPEN, State, Step, What, drop_unseen};

/// What the zones say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Zones {
    /// An order exists.
    Order,
    /// The zones do not contradict each other, but a compare-and-set may.
    Possible,
    /// Values are not unique, or there are counters: the test does not apply.
    NotUnique,
    /// No order exists for these steps of [`split`]'s, and why.
    None { steps: Vec<usize>, claim: String },
}

/// The steps with each swap that took as a write and a read, and whether there was none. Each part
/// is a looser demand than the whole: what is dropped or loosened can only hide a violation.
pub(super) fn split<'a>(steps: &[Step<'a>]) -> (Vec<Step<'a>>, bool) {
    let mut parts = Vec::with_capacity(steps.len());
    let mut plain = true;
    for step in steps {
        match step.what {
            What::Swap { expect, value, took } => {
                plain = false;
                if took == Some(true) {
                    parts.push(Step { what: What::Read(expect), ..*step });
                    parts.push(Step { what: What::Write(value), ..*step });
                } else if took.is_none() {
                    parts.push(Step { what: What::Write(value), returned: OPEN, ..*step });
                }
            }
            _ => parts.push(*step),
        }
    }
    drop_unseen(&mut parts);
    (parts, plain)
}

/// The steps that mention one value.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    value: State,
    write: Option<usize>,
    /// The earliest return and its step; the step is none for the initial value.
    first: (u64, Option<usize>),
    /// The latest invocation and its step.
    last: (u64, usize),
}

impl Cluster {
    fn witness(&self) -> impl Iterator<Item = usize> {
        self.write.into_iter().chain(self.first.1).chain([self.last.1])
    }

    fn none(self, other: &Self) -> Zones {
        let steps = self.witness().chain(other.witness()).collect();
        let claim = format!(
            "{} comes before {}, and {} before {}",
            show(self.value),
            show(other.value),
            show(other.value),
            show(self.value),
        );
        Zones::None { steps, claim }
    }
}

fn show(value: State) -> String {
    value.map_or_else(|| "no value".to_owned(), |v| format!("value {v}"))
}

/// Tests the steps that [`split`] made.
pub(super) fn zones(parts: &[Step<'_>], plain: bool) -> Zones {
    let mut by_value: Vec<(State, usize)> = Vec::with_capacity(parts.len());
    for (i, step) in parts.iter().enumerate() {
        match step.what {
            What::Read(value) => by_value.push((value, i)),
            What::Write(value) => by_value.push((Some(value), i)),
            What::Swap { .. } | What::Add { .. } => return Zones::NotUnique,
        }
    }
    by_value.sort_unstable();
    let mut certain = Vec::new();
    let mut others = Vec::new();
    for mentions in by_value.chunk_by(|a, b| a.0 == b.0) {
        let cluster = match cluster(parts, mentions) {
            Ok(cluster) => cluster,
            Err(verdict) => return verdict,
        };
        if cluster.first.0 < cluster.last.0 {
            certain.push(cluster);
        } else {
            others.push(cluster);
        }
    }
    certain.sort_unstable_by_key(|c| (c.first.0, c.last.0));
    // The register holds the value of `certain[i]` from its first to its last.
    for pair in certain.windows(2) {
        if pair[1].first.0 < pair[0].last.0 {
            return pair[0].none(&pair[1]);
        }
    }
    for other in &others {
        // Zones are disjoint here, so only the last one that begins before can hold this one.
        let after = certain.partition_point(|c| c.first.0 < other.last.0);
        if let Some(holder) = after.checked_sub(1).map(|i| &certain[i])
            && other.first.0 < holder.last.0
        {
            return holder.none(other);
        }
    }
    if plain { Zones::Order } else { Zones::Possible }
}

/// Times begin at 1 here, so that the initial value, written at 0, is before all of them.
const fn after_start(at: u64) -> u64 {
    at.saturating_add(1)
}

fn cluster(parts: &[Step<'_>], mentions: &[(State, usize)]) -> Result<Cluster, Zones> {
    let value = mentions[0].0;
    let mut cluster =
        Cluster { value, write: None, first: (u64::MAX, None), last: (0, mentions[0].1) };
    for &(_, i) in mentions {
        if let What::Write(_) = parts[i].what
            && cluster.write.replace(i).is_some()
        {
            return Err(Zones::NotUnique);
        }
        let (invoked, returned) = (after_start(parts[i].invoked), after_start(parts[i].returned));
        if returned < cluster.first.0 {
            cluster.first = (returned, Some(i));
        }
        if invoked >= cluster.last.0 {
            cluster.last = (invoked, i);
        }
    }
    if value.is_none() {
        // The initial value was written before everything.
        cluster.first = (0, None);
        return Ok(cluster);
    }
    let Some(write) = cluster.write else {
        let claim = format!("{} was read and never written", show(value));
        return Err(Zones::None { steps: vec![mentions[0].1], claim });
    };
    // A read cannot end before the write of its value begins.
    if cluster.first.0 < after_start(parts[write].invoked) {
        let steps = cluster.first.1.into_iter().chain([write]).collect();
        let claim = format!("{} was read before it was written", show(value));
        return Err(Zones::None { steps, claim });
    }
    Ok(cluster)
}
