//! From a history without an order to a few operations without one.
//!
//! Only what keeps the argument sound is taken away. Linearizability is closed under prefixes, under
//! leaving out what changed nothing, and, for a register without unmatched swaps, under leaving out a
//! value with everything that mentions it: what is left of a valid order is a valid order. So a part
//! without an order proves that the whole has none.

use super::search::{Found, search};
use super::step::{OPEN, State, Step, What};
use crate::plan::shrink::minimise;

/// The parts of a shrunk history, and the state that they begin in.
#[derive(Debug)]
pub(super) struct Minimal<'a> {
    pub(super) steps: Vec<Step<'a>>,
    pub(super) state: State,
}

/// Steps that one probe may take: shrinking asks many questions, and an unanswered one only leaves
/// the witness larger.
const PROBE: u64 = 100_000;
/// Probes for one witness.
const PROBES: usize = 500;

/// Shrinks steps that [`search`] found no order for.
pub(super) fn minimal<'a>(steps: &[Step<'a>], state: State) -> Minimal<'a> {
    let mut steps = shortest_prefix(steps, state);
    let mut state = state;
    if steps.iter().all(|s| matches!(s.what, What::Add { .. } | What::Read(_))) {
        (steps, state) = latest_start(steps, state);
    } else {
        steps = fewest_values(steps, state);
    }
    let reads: Vec<usize> = changeless(&steps).collect();
    let kept = minimise(&reads, PROBES, |kept| fails(&without(&steps, &reads, kept), state));
    Minimal { steps: without(&steps, &reads, &kept), state }
}

fn fails(steps: &[Step<'_>], state: State) -> bool {
    search(steps, state, PROBE) == Found::None
}

/// The history up to a moment: what has not returned by then is open.
fn prefix<'a>(steps: &[Step<'a>], until: u64) -> Vec<Step<'a>> {
    steps
        .iter()
        .filter(|s| s.invoked <= until)
        .map(|s| Step { returned: if s.returned <= until { s.returned } else { OPEN }, ..*s })
        // A swap that has not returned has not shown anything either, and a read says nothing.
        .filter_map(|s| match s.what {
            What::Read(_) | What::Swap { took: Some(false), .. } if s.is_open() => None,
            What::Swap { expect, value, .. } if s.is_open() => {
                Some(Step { what: What::Swap { expect, value, took: None }, ..s })
            }
            What::Add { by, .. } if s.is_open() => {
                Some(Step { what: What::Add { by, sum: None }, ..s })
            }
            _ => Some(s),
        })
        .collect()
}

fn shortest_prefix<'a>(steps: &[Step<'a>], state: State) -> Vec<Step<'a>> {
    let mut returns: Vec<u64> = steps.iter().map(|s| s.returned).filter(|&r| r != OPEN).collect();
    returns.sort_unstable();
    let at = returns.partition_point(|&until| !fails(&prefix(steps, until), state));
    match returns.get(at) {
        Some(&until) if fails(&prefix(steps, until), state) => prefix(steps, until),
        _ => steps.to_vec(),
    }
}

/// A counter's sum at a moment without a running operation is known: begin there, as late as
/// possible. Open increments stay, for they may take effect after it.
fn latest_start<'a>(steps: Vec<Step<'a>>, state: State) -> (Vec<Step<'a>>, State) {
    let after = |cut: u64| -> Option<(Vec<Step<'a>>, State)> {
        let mut sum = state.unwrap_or(0);
        let mut rest = Vec::new();
        for step in &steps {
            if step.returned >= cut {
                if step.invoked < cut && !step.is_open() {
                    return None;
                }
                rest.push(*step);
            } else if let What::Add { by, .. } = step.what {
                sum = sum.wrapping_add(by);
            }
        }
        Some((rest, Some(sum)))
    };
    let mut cuts: Vec<u64> = steps.iter().map(|s| s.invoked).collect();
    cuts.sort_unstable();
    cuts.into_iter()
        .rev()
        .filter_map(after)
        .take(PROBES)
        .find(|(rest, state)| fails(rest, *state))
        .unwrap_or((steps, state))
}

fn fewest_values(steps: Vec<Step<'_>>, state: State) -> Vec<Step<'_>> {
    // Unmatched swaps saw that some value was not there; with one of them no value may go.
    let unmatched: Vec<usize> = unmatched(&steps).collect();
    let mut without_unmatched = without(&steps, &unmatched, &[]);
    let certain = |s: &Step<'_>| match s.what {
        What::Swap { took, .. } => took == Some(true) || s.is_open(),
        _ => true,
    };
    if !without_unmatched.iter().all(certain) || !fails(&without_unmatched, state) {
        return steps;
    }
    // Values that were only read count too: reading what nobody wrote is a violation by itself.
    let mut values: Vec<i64> = without_unmatched
        .iter()
        .flat_map(|s| match s.what {
            What::Write(value) => [Some(value), None],
            What::Read(value) => [value, None],
            What::Swap { expect, value, .. } => [Some(value), expect],
            What::Add { .. } => [None, None],
        })
        .flatten()
        .collect();
    values.sort_unstable();
    values.dedup();
    let kept = minimise(&values, PROBES, |kept| fails(&of_values(&without_unmatched, kept), state));
    without_unmatched = of_values(&without_unmatched, &kept);
    without_unmatched
}

/// The steps that mention only the values kept. A swap from a value that is gone becomes a write.
fn of_values<'a>(steps: &[Step<'a>], kept: &[i64]) -> Vec<Step<'a>> {
    let has = |value: State| value.is_none_or(|v| kept.binary_search(&v).is_ok());
    steps
        .iter()
        .filter_map(|s| match s.what {
            What::Read(value) => has(value).then_some(*s),
            What::Write(value) => has(Some(value)).then_some(*s),
            What::Swap { value, .. } if !has(Some(value)) => None,
            What::Swap { expect, value, .. } if !has(expect) => {
                Some(Step { what: What::Write(value), ..*s })
            }
            What::Swap { .. } | What::Add { .. } => Some(*s),
        })
        .collect()
}

fn unmatched(steps: &[Step<'_>]) -> impl Iterator<Item = usize> {
    let took_not = |s: &Step<'_>| matches!(s.what, What::Swap { took: Some(false), .. });
    steps.iter().enumerate().filter(move |(_, s)| took_not(s)).map(|(i, _)| i)
}

fn changeless(steps: &[Step<'_>]) -> impl Iterator<Item = usize> {
    let reads =
        |s: &Step<'_>| matches!(s.what, What::Read(_) | What::Swap { took: Some(false), .. });
    steps.iter().enumerate().filter(move |(_, s)| reads(s)).map(|(i, _)| i)
}

/// The steps without those at `candidates`, except the ones kept. Both are ascending.
fn without<'a>(steps: &[Step<'a>], candidates: &[usize], kept: &[usize]) -> Vec<Step<'a>> {
    let gone = |i: &usize| candidates.binary_search(i).is_ok() && kept.binary_search(i).is_err();
    steps.iter().enumerate().filter(|(i, _)| !gone(i)).map(|(_, s)| *s).collect()
}
