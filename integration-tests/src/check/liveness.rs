//! Progress: while the cluster is healthy operations succeed in every window, and after the heal they
//! do so in time.

use std::time::Duration;

use super::{Case, Verdict, Witness};
use crate::history::{Operation, Outcome};
use crate::time::SimTime;

/// In every window of this length some operation succeeds.
pub const WINDOW: Duration = Duration::from_secs(10);

/// The first success after the heal comes within this time, if anybody asks.
pub const RECOVERY: Duration = Duration::from_secs(10);

/// Judges the progress of a history.
pub fn check(case: &Case<'_>) -> Verdict {
    let mut successes: Vec<SimTime> = case
        .history
        .operations
        .iter()
        .filter(|o| o.outcome == Outcome::Applied)
        .filter_map(|o| o.returned)
        .collect();
    successes.sort_unstable();
    let mut looked = false;
    for &(from, until) in &case.healthy {
        let mut start = from;
        while start + WINDOW <= until {
            let end = start + WINDOW;
            match stalled(case, &successes, start, end) {
                Progress::Stalled(asked) => {
                    let claim = format!("healthy, but nothing succeeded from {start} to {end}");
                    return Verdict::Violation(Witness::new(claim, asked));
                }
                Progress::Made => looked = true,
                Progress::NotAsked => {}
            }
            start = end;
        }
    }
    let recovered = case.healed + RECOVERY;
    if case.healed > SimTime::ZERO && recovered <= case.end {
        match stalled(case, &successes, case.healed, recovered) {
            Progress::Stalled(asked) => {
                let claim =
                    format!("healed at {}, but nothing succeeded until {recovered}", case.healed);
                return Verdict::Violation(Witness::new(claim, asked));
            }
            Progress::Made => looked = true,
            Progress::NotAsked => {}
        }
    }
    if looked {
        Verdict::Pass
    } else {
        Verdict::NotExercised("no healthy window had operations".to_owned())
    }
}

enum Progress<'a> {
    Made,
    /// Nobody asked early enough in the window.
    NotAsked,
    /// Some of those who asked in vain.
    Stalled(Vec<&'a Operation>),
}

/// Whether operations that were invoked in the first half of a span led to no success in it.
fn stalled<'a>(
    case: &Case<'a>,
    successes: &[SimTime],
    from: SimTime,
    until: SimTime,
) -> Progress<'a> {
    let first = successes.partition_point(|&at| at < from);
    if successes.get(first).is_some_and(|&at| at < until) {
        return Progress::Made;
    }
    let half = from + until.since(from) / 2;
    let asked: Vec<&Operation> = case
        .history
        .operations
        .iter()
        .filter(|o| o.invoked >= from && o.invoked < half)
        .take(5)
        .collect();
    if asked.is_empty() { Progress::NotAsked } else { Progress::Stalled(asked) }
}
