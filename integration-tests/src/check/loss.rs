//! Lost writes: an element that was acknowledged is in every final read of every replica.
//!
//! Elements of a set are written once and never overwritten, so a loss has nowhere to hide. An
//! element is *never* there, *known* (seen, but nobody was promised it), *stable* (promised and
//! there) or *lost* (promised, and a replica lacks it at the end).

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Verdict, Witness};
use crate::history::{Operation, Outcome};
use crate::workload::{Action, Key, Seen};

/// How many elements came to which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Not acknowledged, and in no final read.
    pub never: usize,
    /// Not acknowledged, and in a final read.
    pub known: usize,
    /// Acknowledged, and in every final read.
    pub stable: usize,
    /// Acknowledged, and missing in a final read.
    pub lost: usize,
}

/// The final reads of one set, with what each showed.
type FinalReads<'a> = Vec<(&'a Operation, BTreeSet<i64>)>;

/// Judges the sets of a history.
pub fn check(case: &Case<'_>) -> Verdict {
    match survey(case) {
        Ok((Census { stable: 0, .. }, _)) => {
            Verdict::NotExercised("no acknowledged element was read at the end".to_owned())
        }
        Ok(_) => Verdict::Pass,
        Err(verdict) => verdict,
    }
}

/// Counts the elements of all sets that have a final read. The error is the verdict of a loss.
pub fn survey(case: &Case<'_>) -> Result<(Census, BTreeSet<Key>), Verdict> {
    let reads = final_reads(case)?;
    let mut census = Census::default();
    let mut attempted: BTreeMap<Key, BTreeSet<i64>> = BTreeMap::new();
    let mut lost: Option<Witness> = None;
    for operation in &case.history.operations {
        let Action::Add { set, element } = operation.action else { continue };
        attempted.entry(set).or_default().insert(element);
        // An acknowledgement is a promise about reads that begin after it.
        let promised = operation.certain_from().is_some();
        let Some(reads) = reads.get(&set) else { continue };
        let later = |read: &&(&Operation, BTreeSet<i64>)| {
            operation.certain_from().is_none_or(|at| at < read.0.invoked)
        };
        let there = reads.iter().filter(later).filter(|(_, all)| all.contains(&element)).count();
        let missing = reads.iter().filter(later).find(|(_, all)| !all.contains(&element));
        match (promised, missing) {
            (true, Some((read, _))) => {
                census.lost += 1;
                lost.get_or_insert_with(|| loss(case, operation, read, there));
            }
            (true, None) => census.stable += 1,
            (false, _) if there > 0 => census.known += 1,
            (false, _) => census.never += 1,
        }
    }
    for (set, reads) in &reads {
        let attempted = attempted.get(set);
        for (read, elements) in reads {
            let unknown = elements.iter().find(|e| attempted.is_none_or(|a| !a.contains(e)));
            if let Some(element) = unknown {
                let claim = format!("{set} holds {element}, which nobody added");
                return Err(Verdict::Violation(Witness::new(claim, [*read])));
            }
        }
    }
    if let Some(mut witness) = lost {
        let acknowledged = census.lost + census.stable;
        witness.claim = format!("{} ({} of {acknowledged} lost)", witness.claim, census.lost);
        return Err(Verdict::Violation(witness));
    }
    Ok((census, reads.into_keys().collect()))
}

fn final_reads<'a>(case: &Case<'a>) -> Result<BTreeMap<Key, FinalReads<'a>>, Verdict> {
    let mut reads: BTreeMap<Key, FinalReads<'_>> = BTreeMap::new();
    for operation in &case.history.operations {
        let Action::ReadSet { set } = operation.action else { continue };
        if operation.outcome != Outcome::Applied || operation.invoked < case.final_from {
            continue;
        }
        let Some(Seen::Elements(elements)) = &operation.seen else {
            return Err(Verdict::Harness(format!("the history is malformed: {operation}")));
        };
        let all: BTreeSet<i64> = elements.iter().copied().collect();
        if all.len() != elements.len() {
            let claim = format!("{set} shows an element twice");
            return Err(Verdict::Violation(Witness::new(claim, [operation])));
        }
        reads.entry(set).or_default().push((operation, all));
    }
    Ok(reads)
}

/// The acknowledged add, the read that lacks it, and who saw it last.
fn loss(case: &Case<'_>, add: &Operation, read: &Operation, there: usize) -> Witness {
    let Action::Add { set, element } = add.action else {
        return Witness::new("an element is lost", [add, read]);
    };
    let saw = |o: &&Operation| {
        o.action == Action::ReadSet { set }
            && matches!(&o.seen, Some(Seen::Elements(all)) if all.contains(&element))
    };
    let last_seen = case.history.operations.iter().rev().find(saw);
    let claim = match there {
        0 => format!("{element} of {set} was acknowledged and is lost"),
        n => format!("{element} of {set} was acknowledged and is missing, but {n} reads have it"),
    };
    Witness::new(claim, [add, read].into_iter().chain(last_seen))
}
