//! Linearizability: every operation takes effect at one moment between its invocation and its
//! return (Herlihy and Wing 1990).
//!
//! Keys are judged one by one, for the property is local. Registers with unique values are decided by
//! `zones`; compare-and-set and counters by `search`. A violation is shrunk to a few operations
//! and confirmed on them by a search that uses no hashes.

mod minimal;
mod search;
mod step;
#[cfg(test)]
mod tests;
mod zones;

use std::collections::BTreeMap;

use self::search::{Found, confirm, search};
use self::step::{State, Step, drop_unseen, initial};
use self::zones::{Zones, split, zones};
use super::{Case, Verdict, Witness};
use crate::workload::{Key, Kind};

/// Steps that the confirmation of a witness may take.
const CONFIRM: u64 = 5_000_000;

/// Judges every register and counter of a history.
pub fn check(case: &Case<'_>) -> Verdict {
    let mut keys: BTreeMap<Key, Vec<Step<'_>>> = BTreeMap::new();
    for effect in case.history.effects() {
        match step::step(effect) {
            Ok(Some(step)) => keys.entry(effect.operation.action.key()).or_default().push(step),
            Ok(None) => {}
            Err(malformed) => return Verdict::Harness(malformed),
        }
    }
    if keys.is_empty() {
        return Verdict::NotExercised("no register or counter was used".to_owned());
    }
    let mut undecided = Vec::new();
    for (key, steps) in keys {
        match judge(key, steps, case.budget) {
            Verdict::Pass => {}
            Verdict::Undecided(_) => undecided.push(key.to_string()),
            verdict => return verdict,
        }
    }
    if undecided.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Undecided(format!("out of budget on {}", undecided.join(", ")))
    }
}

fn judge(key: Key, mut steps: Vec<Step<'_>>, budget: u64) -> Verdict {
    let state = initial(key);
    if key.kind == Kind::Register {
        let (parts, plain) = split(&steps);
        match zones(&parts, plain) {
            Zones::Order => return Verdict::Pass,
            Zones::Possible | Zones::NotUnique => {}
            Zones::None { steps, claim } => {
                let steps: Vec<Step<'_>> = steps.into_iter().map(|i| parts[i]).collect();
                return violation(key, &deduplicated(&steps), state, &claim);
            }
        }
    }
    drop_unseen(&mut steps);
    match search(&steps, state, budget) {
        Found::Order => Verdict::Pass,
        Found::OutOfBudget => Verdict::Undecided(key.to_string()),
        Found::None => {
            let minimal = minimal::minimal(&steps, state);
            let from = match minimal.state {
                None => String::new(),
                Some(value) => format!(", from {value}"),
            };
            let claim = format!("no order explains what these operations showed{from}");
            violation(key, &minimal.steps, minimal.state, &claim)
        }
    }
}

/// A step may be evidence twice: as the first and as the last of its value.
fn deduplicated<'a>(steps: &[Step<'a>]) -> Vec<Step<'a>> {
    let mut once: Vec<Step<'a>> = Vec::with_capacity(steps.len());
    for step in steps {
        let same = |s: &Step<'_>| std::ptr::eq(s.operation, step.operation) && s.what == step.what;
        if !once.iter().any(same) {
            once.push(*step);
        }
    }
    once
}

fn violation(key: Key, steps: &[Step<'_>], state: State, claim: &str) -> Verdict {
    let witness = Witness::new(
        format!("{key} is not linearizable: {claim}"),
        steps.iter().map(|s| s.operation),
    );
    match confirm(steps, state, CONFIRM) {
        Found::None => Verdict::Violation(witness),
        Found::OutOfBudget => Verdict::Undecided(format!("{key}: {witness}")),
        Found::Order => Verdict::Harness(format!("an order exists for the witness: {witness}")),
    }
}
