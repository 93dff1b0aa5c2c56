//! Making a failing plan small: delta debugging (Zeller and Hildebrandt 2002).

use std::time::Duration;

use super::Plan;
use crate::time::SimTime;

/// The smallest part of `items` that this search finds for which `fails` still holds, in their
/// order, asking at most `limit` times. `fails` must hold for all of them.
///
/// First halves, then quarters, then ever smaller chunks are left out. The result is 1-minimal
/// unless the limit was reached: leaving out any one more item makes it pass.
pub fn minimise<T: Clone>(
    items: &[T],
    limit: usize,
    mut fails: impl FnMut(&[T]) -> bool,
) -> Vec<T> {
    let mut kept = items.to_vec();
    let mut asked = 0;
    if limit == 0 || kept.is_empty() {
        return kept;
    }
    asked += 1;
    if fails(&[]) {
        return Vec::new();
    }
    let mut chunk = kept.len().div_ceil(2);
    loop {
        let mut removed = false;
        let mut from = 0;
        while from < kept.len() {
            if asked == limit {
                return kept;
            }
            asked += 1;
            let until = (from + chunk).min(kept.len());
            let candidate = [&kept[..from], &kept[until..]].concat();
            if !candidate.is_empty() && fails(&candidate) {
                kept = candidate;
                removed = true;
            } else {
                from = until;
            }
        }
        if chunk == 1 && !removed {
            return kept;
        }
        if chunk > 1 {
            chunk = chunk.div_ceil(2);
        }
        chunk = chunk.min(kept.len().max(1));
    }
}

/// What shrinking a plan came to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest plan that still fails.
    pub plan: Plan,
    /// How many candidates were run.
    pub runs: usize,
}

/// Shrinks a plan for which `fails` holds, running at most `limit` candidates.
///
/// A candidate counts if `fails` says so, which should be: the same checker fails, whatever the
/// trace. Faults go first, for they make runs slow and witnesses long; then operations; then faults
/// again, since fewer operations need fewer of them; then the time that is left over, and the
/// lengths of faults.
pub fn shrink(plan: &Plan, limit: usize, mut fails: impl FnMut(&Plan) -> bool) -> Shrunk {
    let mut plan = plan.clone();
    let mut runs = 0;
    for round in 0..2 {
        let share = (limit - runs.min(limit)) / if round == 0 { 3 } else { 2 };
        let base = plan.clone();
        plan.faults = minimise(&base.faults, share, |faults| {
            runs += 1;
            fails(&Plan { faults: faults.to_vec(), ..base.clone() })
        });
        let base = plan.clone();
        let share = (limit - runs.min(limit)) / if round == 0 { 2 } else { 1 };
        plan.ops = minimise(&base.ops, share, |ops| {
            runs += 1;
            fails(&Plan { ops: ops.to_vec(), ..base.clone() })
        });
    }
    for simpler in [earlier_heal, shorter_faults] {
        while runs < limit
            && let Some(candidate) = simpler(&plan)
        {
            runs += 1;
            if !fails(&candidate) {
                break;
            }
            plan = candidate;
        }
    }
    Shrunk { plan, runs }
}

/// Ends the safety and core phases as soon as the last operation and fault of theirs have begun.
fn earlier_heal(plan: &Plan) -> Option<Plan> {
    let phases = plan.config.phases;
    let last_op = plan.ops.iter().map(|op| op.at).filter(|&at| at < phases.heal).max();
    let last_fault = plan.faults.iter().map(|f| f.at + f.lasts).max();
    let last = last_op.max(last_fault).unwrap_or(SimTime::ZERO) + Duration::from_secs(1);
    if last >= phases.core {
        return None;
    }
    let mut plan = plan.clone();
    let core = phases.heal.since(phases.core);
    plan.config.phases.core = last;
    plan.config.phases.heal = last + core;
    plan.config.phases.end = last + core + phases.end.since(phases.heal);
    let earlier = phases.core.since(last);
    for op in plan.ops.iter_mut().filter(|op| op.at >= phases.heal) {
        op.at = op.at - earlier;
    }
    Some(plan)
}

/// Halves the lengths of all faults that last longer than a second.
fn shorter_faults(plan: &Plan) -> Option<Plan> {
    let long = |d: Duration| d > Duration::from_secs(1);
    if !plan.faults.iter().any(|f| long(f.lasts)) {
        return None;
    }
    let mut plan = plan.clone();
    for fault in plan.faults.iter_mut().filter(|f| long(f.lasts)) {
        fault.lasts /= 2;
    }
    Some(plan)
}
