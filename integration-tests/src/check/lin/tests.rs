//! Proof of the search and the zones: against brute force, against each other, and on histories that
//! are valid by construction or broken on purpose.

use common::env::{Rng, SplitMix64};
use proptest::prelude::*;

use super::step::{OPEN, What};
use super::*;
use crate::history::{History, Operation, Outcome, Process};
use crate::time::SimTime;
use crate::workload::{Action, Class, Expect, Seen};

const KEY: Key = Key::register(0);

fn operation(client: u8, invoked: u64, returned: Option<u64>, action: Action) -> Operation {
    Operation {
        process: Process { client, incarnation: 0 },
        action,
        session: 0,
        class: Class::Safe,
        target: None,
        invoked: SimTime(invoked),
        returned: returned.map(SimTime),
        deadline: None,
        outcome: if returned.is_some() { Outcome::Applied } else { Outcome::Unknown },
        early: false,
        seen: None,
        receipt: None,
        fate: None,
    }
}

/// The operation that a step stands for.
fn of_step(client: u8, invoked: u64, returned: u64, what: What) -> Operation {
    let key = if matches!(what, What::Add { .. }) { Key::counter(0) } else { KEY };
    let (action, seen) = match what {
        What::Read(value) => (Action::Read { key }, Some(Seen::Value(value))),
        What::Write(value) => (Action::Write { key, value }, None),
        What::Swap { expect, value, took } => {
            let expect = Expect::Value(expect);
            (Action::CompareAndSet { key, expect, value }, took.map(Seen::Swapped))
        }
        What::Add { by, sum } => (Action::Increment { key, by }, sum.map(|s| Seen::Value(Some(s)))),
    };
    let returned = (returned != OPEN).then_some(returned);
    Operation { seen, ..operation(client, invoked, returned, action) }
}

fn steps_of(operations: &[Operation]) -> Vec<Step<'_>> {
    let step = |operation| {
        let returned = Operation::certain_from(operation);
        step::step(crate::history::Effect { operation, returned }).unwrap().unwrap()
    };
    operations.iter().map(step).collect()
}

/// Every order of every choice of open steps, by definition and without any cleverness.
fn brute_force(steps: &[Step<'_>], state: State, taken: &mut Vec<usize>) -> bool {
    if steps.iter().enumerate().all(|(i, s)| s.is_open() || taken.contains(&i)) {
        return true;
    }
    (0..steps.len()).any(|i| {
        if taken.contains(&i) {
            return false;
        }
        // A step that returned before this one began must have been taken before.
        let late = |(j, s): (usize, &Step<'_>)| {
            s.returned < steps[i].invoked && !taken.contains(&j) && i != j
        };
        if steps.iter().enumerate().any(late) {
            return false;
        }
        let Some(after) = steps[i].what.apply(state) else { return false };
        taken.push(i);
        let found = brute_force(steps, after, taken);
        taken.pop();
        found
    })
}

/// Up to `most` steps with a few values, random spans, some of them open.
fn random_history(rng: &dyn Rng, most: u64, kinds: &[u64], unique: bool) -> Vec<Operation> {
    let count = 1 + rng.below(most);
    let mut written = 0;
    (0..count)
        .map(|client| {
            let invoked = rng.below(12);
            let open = rng.below(8) == 0;
            let value = |rng: &dyn Rng| match rng.below(4) {
                0 => None,
                n => Some(n.cast_signed()),
            };
            written += 1;
            let new = if unique { written } else { 1 + rng.below(3).cast_signed() };
            let what = match kinds[rng.below(kinds.len() as u64) as usize] {
                0 => What::Read(value(rng)),
                1 => What::Write(new),
                2 => {
                    let took = (!open).then(|| rng.below(3) > 0);
                    What::Swap { expect: value(rng), value: new, took }
                }
                _ => {
                    let by = 1 + rng.below(2).cast_signed();
                    let sum = (!open && rng.below(3) > 0).then(|| rng.below(6).cast_signed());
                    What::Add { by, sum }
                }
            };
            // A read without an answer says nothing and never gets here.
            let open = open && !matches!(what, What::Read(_));
            let returned = if open { OPEN } else { invoked + rng.below(8) };
            of_step(client as u8, invoked, returned, what)
        })
        .collect()
}

/// What the checker as a whole says about steps of one key.
fn verdict(operations: &[Operation]) -> Verdict {
    judge(operations[0].action.key(), steps_of(operations), u64::MAX)
}

fn compare_with_brute_force(seed: u64, rounds: u64, kinds: &[u64], unique: bool) -> (u64, u64) {
    let rng = SplitMix64::new(seed);
    let (mut valid, mut broken) = (0, 0);
    for _ in 0..rounds {
        let operations = random_history(&rng, 6, kinds, unique);
        let steps = steps_of(&operations);
        let expected = brute_force(&steps, initial(operations[0].action.key()), &mut Vec::new());
        match (expected, verdict(&operations)) {
            (true, Verdict::Pass) => valid += 1,
            (false, Verdict::Violation(witness)) => {
                broken += 1;
                assert!(!witness.operations.is_empty());
            }
            (_, found) => {
                let all = crate::check::Witness::new("all", &operations);
                panic!("brute force: {expected}, {found:?}\n{all}")
            }
        }
    }
    (valid, broken)
}

#[test]
fn a_hundred_thousand_small_histories_agree_with_brute_force() {
    let mixes: [(&[u64], bool); 5] = [
        (&[0, 1], true),       // zones
        (&[0, 0, 1], false),   // repeated values
        (&[0, 0, 1, 2], true), // zones, then search
        (&[0, 1, 2], false),   // compare-and-set on few values
        (&[3], false),         // counters
    ];
    let (mut valid, mut broken) = (0, 0);
    for (seed, (kinds, unique)) in mixes.into_iter().enumerate() {
        let (v, b) = compare_with_brute_force(seed as u64, 24_000, kinds, unique);
        assert!(v > 1_000 && b > 1_000, "mix {seed} is one-sided: {v} valid, {b} broken");
        valid += v;
        broken += b;
    }
    assert_eq!(valid + broken, 120_000);
}

/// A history that is valid by construction: every operation takes effect at a point within its span.
fn generated(seed: u64, clients: u64, each: u64, swaps: bool, open: u64) -> Vec<Operation> {
    let rng = SplitMix64::new(seed);
    // (point, client, invoked, returned)
    let mut spans = Vec::new();
    for client in 0..clients {
        let mut at = 1 + rng.below(1_000);
        for _ in 0..each {
            let invoked = at;
            let point = invoked + 1 + rng.below(1_000);
            let returned = point + 1 + rng.below(1_000);
            spans.push((point, client as u8, invoked, returned));
            at = returned + 1 + rng.below(300);
        }
    }
    spans.sort_unstable();
    let mut state = None;
    let mut operations = Vec::new();
    for (value, (_, client, invoked, returned)) in (1_i64..).zip(spans) {
        let lost = rng.below(1_000) < open;
        let returned = if lost { OPEN } else { returned };
        let what = match rng.below(10) {
            0..5 if !lost => What::Read(state),
            8.. if swaps => {
                let expect = if rng.below(3) == 0 { Some(-1) } else { state };
                let took = expect == state;
                state = if took { Some(value) } else { state };
                What::Swap { expect, value, took: (!lost).then_some(took) }
            }
            _ => {
                // Half of those that got no answer never happened.
                if !lost || rng.below(2) == 0 {
                    state = Some(value);
                }
                What::Write(value)
            }
        };
        operations.push(of_step(client, invoked, returned, what));
    }
    operations
}

/// Makes one read show a value that was overwritten before the read began, if there is one.
fn plant_stale_read(operations: &mut [Operation], rng: &dyn Rng) -> bool {
    let reads: Vec<usize> =
        (0..operations.len()).filter(|&i| operations[i].action.is_read()).collect();
    for _ in 0..20 {
        if reads.is_empty() {
            return false;
        }
        let read = reads[rng.below(reads.len() as u64) as usize];
        let begin = operations[read].invoked;
        let mut writes: Vec<(SimTime, SimTime, i64)> = operations
            .iter()
            .filter_map(|o| match (o.action, o.returned) {
                (Action::Write { value, .. }, Some(at)) if at < begin => {
                    Some((at, o.invoked, value))
                }
                _ => None,
            })
            .collect();
        writes.sort_unstable();
        // A write that returned before another one began, which itself returned before the read.
        if let Some(&(_, newest, _)) = writes.last()
            && let Some(&(_, _, stale)) = writes.iter().rev().find(|w| w.0 < newest)
        {
            operations[read].seen = Some(Seen::Value(Some(stale)));
            return true;
        }
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn valid_histories_pass_and_one_stale_read_fails(
        seed: u64, clients in 1_u64..8, each in 5_u64..60, swaps: bool, open in 0_u64..40,
    ) {
        let mut operations = generated(seed, clients, each, swaps, open);
        prop_assert_eq!(verdict(&operations), Verdict::Pass);
        if plant_stale_read(&mut operations, &SplitMix64::new(seed)) {
            match verdict(&operations) {
                Verdict::Violation(w) => prop_assert!(w.operations.len() <= 10, "{}", w),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn the_search_agrees_with_the_zones_on_registers(seed: u64, each in 5_u64..40) {
        let mut operations = generated(seed, 4, each, false, 20);
        for planted in [false, true] {
            if planted && !plant_stale_read(&mut operations, &SplitMix64::new(seed)) {
                break;
            }
            let steps = steps_of(&operations);
            let (parts, plain) = split(&steps);
            let by_zones = zones(&parts, plain) == Zones::Order;
            let mut steps = steps;
            drop_unseen(&mut steps);
            prop_assert_eq!(search(&steps, None, u64::MAX) == Found::Order, by_zones);
            prop_assert_eq!(confirm(&steps, None, u64::MAX) == Found::Order, by_zones);
        }
    }

    #[test]
    fn counters_pass_and_one_wrong_sum_fails(seed: u64, clients in 1_u64..5, each in 3_u64..30) {
        let counter = Key::counter(0);
        let mut operations = generated(seed, clients, each, false, 0);
        let mut sum = 0;
        for o in &mut operations {
            if let Action::Write { value, .. } = o.action {
                sum += value;
                o.action = Action::Increment { key: counter, by: value };
                o.seen = (value % 2 == 0).then_some(Seen::Value(Some(sum)));
            } else {
                o.action = Action::Read { key: counter };
                o.seen = Some(Seen::Value(Some(sum)));
            }
        }
        prop_assert_eq!(verdict(&operations), Verdict::Pass);
        let history = History { operations: operations.clone() };
        prop_assert!(!crate::check::bounds::check(&Case::new(&history)).fails());
        let at = seed as usize % operations.len();
        if operations[at].seen.is_some() {
            operations[at].seen = Some(Seen::Value(Some(-1)));
            prop_assert!(verdict(&operations).fails());
            let history = History { operations };
            prop_assert!(crate::check::bounds::check(&Case::new(&history)).fails());
        }
    }
}

#[test]
fn a_witness_is_itself_not_linearizable_and_nothing_can_be_left_out() {
    let mut operations = generated(3, 5, 400, true, 10);
    assert!(plant_stale_read(&mut operations, &SplitMix64::new(3)));
    let Verdict::Violation(witness) = verdict(&operations) else { panic!("a stale read") };
    assert!((2..=10).contains(&witness.operations.len()), "{witness}");
}

#[test]
fn a_search_out_of_budget_is_undecided() {
    let history = History { operations: generated(5, 6, 50, true, 0) };
    let case = Case { budget: 10, ..Case::new(&history) };
    assert!(matches!(check(&case), Verdict::Undecided(_)));
    assert_eq!(check(&Case::new(&history)), Verdict::Pass);
}

#[test]
fn keys_are_judged_apart_and_weak_reads_not_at_all() {
    let mut operations = generated(7, 3, 30, false, 0);
    let last = operations.len() as u64 * 10_000;
    let mut weak = operation(9, last, Some(last + 1), Action::Read { key: KEY });
    weak.class = Class::Fast;
    weak.seen = Some(Seen::Value(None));
    operations.push(weak.clone());
    let history = History { operations: operations.clone() };
    assert_eq!(check(&Case::new(&history)), Verdict::Pass);
    // The same read on another key is right, and as a strong one on this key it is stale.
    weak.class = Class::Safe;
    weak.action = Action::Read { key: Key::register(1) };
    operations.push(weak.clone());
    let history = History { operations: operations.clone() };
    assert_eq!(check(&Case::new(&history)), Verdict::Pass);
    weak.action = Action::Read { key: KEY };
    operations.push(weak);
    let history = History { operations };
    assert!(matches!(check(&Case::new(&history)), Verdict::Violation(_)));
}

#[test]
fn a_malformed_history_blames_the_harness() {
    let action = Action::CompareAndSet { key: KEY, expect: Expect::LastSeen, value: 1 };
    let history = History { operations: vec![operation(0, 1, Some(2), action)] };
    assert!(matches!(check(&Case::new(&history)), Verdict::Harness(_)));
}

/// Prints how long the checker takes; run it by name with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
fn measure() {
    for (name, clients, each, swaps) in [
        ("1k register", 5, 200, false),
        ("1k compare-and-set", 5, 200, true),
        ("2k compare-and-set, 10 clients", 10, 200, true),
        ("10k register", 10, 1_000, false),
        ("100k register", 10, 10_000, false),
        ("100k compare-and-set", 10, 10_000, true),
    ] {
        for open in [0, 20] {
            let mut operations = generated(1, clients, each, swaps, open);
            let start = std::time::Instant::now();
            let valid = judge(KEY, steps_of(&operations), 50_000_000);
            let took = start.elapsed();
            assert!(plant_stale_read(&mut operations, &SplitMix64::new(2)));
            let start = std::time::Instant::now();
            let broken = judge(KEY, steps_of(&operations), 50_000_000);
            println!(
                "{name}, {open}/1000 open: valid {took:?} ({}), one stale read {:?} ({})",
                matches!(valid, Verdict::Pass),
                start.elapsed(),
                broken.fails()
            );
        }
    }
}
