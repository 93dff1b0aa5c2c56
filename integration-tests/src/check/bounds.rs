//! Counters within their bounds: a read is at least what was acknowledged before it began, and at
//! most what was attempted before it ended.
//!
//! Weaker than [`lin`](super::lin), but linear in time and right for every class of read after
//! quiescence, and its evidence is a sum that anybody can check. An increment applied twice exceeds
//! the upper bound, a lost one falls below the lower.

use std::collections::BTreeMap;

use super::{Case, Verdict, Witness};
use crate::history::{Operation, Outcome};
use crate::time::SimTime;
use crate::workload::{Action, Class, Key, Kind, Seen};

/// An event of a counter: amounts that move its bounds.
#[derive(Clone, Copy, Debug)]
struct Move {
    at: SimTime,
    low: i64,
    high: i64,
}

/// Judges the counters of a history.
pub fn check(case: &Case<'_>) -> Verdict {
    let mut moves: BTreeMap<Key, Vec<Move>> = BTreeMap::new();
    let mut reads: Vec<(&Operation, i64)> = Vec::new();
    for effect in case.history.effects() {
        let operation = effect.operation;
        match operation.action {
            Action::Increment { key, by } => {
                let moves = moves.entry(key).or_default();
                // From its invocation on it may be there: a negative one lowers the lower bound.
                moves.push(Move { at: operation.invoked, low: by.min(0), high: by.max(0) });
                // From its return on it must be there.
                if let Some(at) = effect.returned {
                    moves.push(Move { at, low: by.max(0), high: by.min(0) });
                }
                if let Some(Seen::Value(Some(sum))) = operation.seen {
                    reads.push((operation, sum));
                }
            }
            Action::Read { key } if key.kind == Kind::Counter => {
                let judged = operation.class == Class::Safe || operation.invoked >= case.final_from;
                match operation.seen {
                    Some(Seen::Value(sum)) if judged => reads.push((operation, sum.unwrap_or(0))),
                    Some(Seen::Value(_)) => {}
                    _ => return Verdict::Harness(format!("the history is malformed: {operation}")),
                }
            }
            _ => {}
        }
    }
    if reads.is_empty() {
        return Verdict::NotExercised("no counter was read".to_owned());
    }
    let bounds: BTreeMap<Key, Bounds> =
        moves.into_iter().map(|(key, moves)| (key, Bounds::new(moves))).collect();
    let nothing = Bounds::default();
    for (read, sum) in reads {
        let key = read.action.key();
        let bounds = bounds.get(&key).unwrap_or(&nothing);
        let until = read.returned.unwrap_or(case.end);
        let (low, high) = bounds.of(read.invoked, until);
        if sum < low || sum > high {
            let claim = format!("{key} shows {sum}, which must lie within [{low}, {high}]");
            return Verdict::Violation(Witness::new(claim, evidence(case, read, sum > high)));
        }
    }
    Verdict::Pass
}

/// The running sums of a counter's certain and possible increments.
#[derive(Debug, Default)]
struct Bounds {
    /// By time: the sum of all `low` so far, and of all `high`.
    sums: Vec<(SimTime, i64, i64)>,
}

impl Bounds {
    fn new(mut moves: Vec<Move>) -> Self {
        moves.sort_by_key(|m| m.at);
        let mut sum = (0, 0);
        let sums = moves
            .into_iter()
            .map(|m| {
                sum = (sum.0 + m.low, sum.1 + m.high);
                (m.at, sum.0, sum.1)
            })
            .collect();
        Self { sums }
    }

    /// The bounds of a read in this span. Acknowledged before it: certain. Invoked before its end:
    /// possible. In between each increment counts on the side that widens the bounds.
    fn of(&self, from: SimTime, until: SimTime) -> (i64, i64) {
        let before = self.sums.partition_point(|s| s.0 < from);
        let during = self.sums.partition_point(|s| s.0 <= until);
        let (mut low, mut high) = match before.checked_sub(1) {
            None => (0, 0),
            Some(i) => (self.sums[i].1, self.sums[i].2),
        };
        let mut last = (low, high);
        for &(_, l, h) in &self.sums[before..during] {
            low += (l - last.0).min(0);
            high += (h - last.1).max(0);
            last = (l, h);
        }
        (low, high)
    }
}

/// The read, and the increments around it that decide: those in flight, or the last before it.
fn evidence<'a>(case: &Case<'a>, read: &'a Operation, too_high: bool) -> Vec<&'a Operation> {
    let key = read.action.key();
    let until = read.returned.unwrap_or(case.end);
    let concerns = |o: &&Operation| {
        matches!(o.action, Action::Increment { key: k, .. } if k == key)
            && o.outcome != Outcome::NotApplied
            && if too_high {
                o.invoked <= until
            } else {
                o.certain_from().is_some_and(|at| at < read.invoked)
            }
    };
    let mut operations: Vec<&Operation> =
        case.history.operations.iter().rev().filter(concerns).take(8).collect();
    operations.push(read);
    operations
}
