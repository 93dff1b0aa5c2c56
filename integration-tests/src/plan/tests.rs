use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::env::SplitMix64;

use super::config::{exponential, log_uniform};
use super::shrink::{minimise, shrink};
use super::*;
use crate::workload::{Kind, OPERATIONS_PER_KEY, Workload};

#[test]
fn a_seed_draws_the_same_plan_every_time_and_another_seed_another() {
    assert_eq!(Plan::draw(4711), Plan::draw(4711));
    assert_ne!(Plan::draw(4711).ops, Plan::draw(4712).ops);
}

#[test]
fn a_plan_survives_its_file() {
    for seed in 0..5 {
        let plan = Plan::draw(seed);
        assert_eq!(Plan::from_json(&plan.to_json()).unwrap(), plan);
    }
}

#[test]
fn a_plan_of_another_format_is_refused_by_name() {
    let text = r#"{ "format": 7, "something": "else" }"#;
    let error = Plan::from_json(text).unwrap_err();
    assert!(matches!(error, PlanError::Format(7)), "{error}");
    assert!(error.to_string().contains("format 7"), "{error}");
    assert!(matches!(Plan::from_json("[]"), Err(PlanError::Text(_))));
}

#[test]
fn the_committed_example_is_readable_and_complete() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/plans/example.json");
    let plan = Plan::load(std::path::Path::new(path)).unwrap();
    assert!(plan.faults.len() >= 3 && plan.ops.len() >= 10, "an example shows something");
    assert!(plan.ops.iter().any(|op| op.at > plan.config.phases.heal), "and reads at the end");
    assert_eq!(std::fs::read_to_string(path).unwrap(), plan.to_json(), "the format is this one");
}

/// Faults of a plan by kind.
fn by_kind(plan: &Plan) -> BTreeMap<FaultName, Vec<TimedFault>> {
    let mut kinds: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for fault in &plan.faults {
        kinds.entry(fault.kind.name()).or_default().push(fault.clone());
    }
    kinds
}

#[test]
fn deleting_one_kind_of_fault_shifts_nothing_else() {
    for seed in 0..20 {
        let whole = Plan::draw(seed);
        let kinds = by_kind(&whole);
        let Some(&gone) = kinds.keys().next() else { continue };
        let less = Plan::draw_with(seed, |config| {
            config.faults.remove(&gone);
        });
        assert_eq!(less.ops, whole.ops);
        let mut expected = kinds.clone();
        expected.remove(&gone);
        assert_eq!(by_kind(&less), expected);
    }
}

#[test]
fn deleting_one_fault_shifts_nothing_else() {
    let whole = Plan::draw(3);
    assert!(whole.faults.len() > 2);
    let mut less = whole.clone();
    let gone = less.faults.remove(1);
    let less = Plan::from_json(&less.to_json()).unwrap();
    assert_eq!((&less.ops, &less.config), (&whole.ops, &whole.config));
    // What a fault draws when it strikes comes from its own salt, which no other fault shares.
    let salts: BTreeSet<u64> = whole.faults.iter().map(|f| f.salt).collect();
    assert_eq!(salts.len(), whole.faults.len());
    let rest: Vec<_> = whole.faults.iter().filter(|f| f.salt != gone.salt).collect();
    assert_eq!(less.faults.iter().collect::<Vec<_>>(), rest);
}

#[test]
fn a_longer_run_and_one_more_client_begin_with_the_same_operations() {
    let short = Plan::draw_with(9, |c| c.clients = 4);
    let long = Plan::draw_with(9, |c| {
        c.clients = 4;
        c.phases.core = c.phases.core + Duration::from_secs(60);
        c.phases.heal = c.phases.heal + Duration::from_secs(60);
        c.phases.end = c.phases.end + Duration::from_secs(60);
    });
    let until = short.config.phases.heal;
    let before = |plan: &Plan, client| -> Vec<TimedOp> {
        let of = |op: &&TimedOp| op.client == client && op.at < until;
        plan.ops.iter().filter(of).cloned().collect()
    };
    for client in 0..4 {
        assert_eq!(before(&short, client), before(&long, client));
    }
    let faults: Vec<_> =
        long.faults.iter().filter(|f| f.at < short.config.phases.core).cloned().collect();
    assert_eq!(short.faults, faults);
}

#[test]
fn the_swarm_covers_its_ranges() {
    let plans: Vec<Plan> = (0..300).map(Plan::draw).collect();
    let kinds: BTreeSet<FaultName> =
        plans.iter().flat_map(|p| p.faults.iter().map(|f| f.kind.name())).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), FaultName::ALL, "every kind is drawn");
    let five = plans.iter().filter(|p| p.config.nodes == 5).count();
    assert!((100..200).contains(&five), "half of the seeds have five nodes: {five}");
    let rates: Vec<usize> = plans.iter().map(|p| p.faults.len()).collect();
    let gentle = rates.iter().filter(|&&n| n < 30).count();
    let harsh = rates.iter().filter(|&&n| n > 150).count();
    assert!(gentle > 30 && harsh > 30, "two orders of magnitude: {gentle} gentle, {harsh} harsh");
    for workload in Workload::ALL {
        assert!(plans.iter().any(|p| p.config.workloads == [workload]), "{workload:?} alone");
    }
    assert!(plans.iter().any(|p| p.config.knobs != Knobs::default()));
    assert!(plans.iter().any(|p| p.config.sector == 512));
}

#[test]
fn every_plan_keeps_its_limits() {
    for seed in 0..100 {
        let plan = Plan::draw(seed);
        let config = &plan.config;
        assert!(plan.ops.is_sorted_by_key(|op| op.at) && plan.faults.is_sorted_by_key(|f| f.at));
        assert!(config.core.len() * 2 > usize::from(config.nodes), "the core is a majority");
        assert!(plan.faults.iter().all(|f| f.at < config.phases.core));
        assert!(plan.ops.iter().all(|op| op.at < config.phases.end), "seed {seed}");
        let mut per_key: BTreeMap<_, u32> = BTreeMap::new();
        for op in plan.ops.iter().filter(|op| op.client < operations::FINAL_READER) {
            *per_key.entry(op.action.key()).or_default() += 1;
        }
        for (key, &count) in &per_key {
            assert!(key.kind == Kind::Set || count <= OPERATIONS_PER_KEY, "{key}: {count}");
            // Every key is read from every node in the end.
            for node in 0..config.nodes {
                let reads = |op: &&TimedOp| {
                    op.at > config.phases.heal
                        && op.target == Role::Node(node)
                        && op.action.is_read()
                        && op.action.key() == *key
                };
                assert!(plan.ops.iter().any(|op| reads(&op)), "{key} at node {node}");
            }
        }
    }
}

#[test]
fn healthy_spans_leave_out_faults_and_the_time_to_settle() {
    let mut plan = Plan::draw(1);
    let fault = |at, lasts| TimedFault {
        at: SimTime::from_secs(at),
        lasts: Duration::from_secs(lasts),
        kind: FaultKind::Crash,
        on: Role::Node(0),
        salt: 0,
    };
    plan.faults = vec![fault(15, 2), fault(20, 100)];
    let spans = plan.healthy(Duration::from_secs(5), Duration::from_secs(4));
    let (core, end) = (plan.config.phases.core, plan.config.phases.end);
    let first = (SimTime::from_secs(5), SimTime::from_secs(15));
    assert_eq!(spans, [first, (core + Duration::from_secs(5), end)]);
}

#[test]
fn drawn_times_have_their_mean_and_their_range() {
    let rng = SplitMix64::new(1);
    let mean = Duration::from_millis(100);
    let sum: Duration = (0..100_000).map(|_| exponential(&rng, mean)).sum();
    let measured = sum.as_secs_f64() / 100_000.0;
    assert!((0.098..0.102).contains(&measured), "{measured}");
    let (least, most) = (Duration::from_millis(50), Duration::from_secs(5));
    let drawn: Vec<_> = (0..10_000).map(|_| log_uniform(&rng, least, most)).collect();
    assert!(drawn.iter().all(|d| (least..=most).contains(d)));
    let small = drawn.iter().filter(|&&d| d < Duration::from_millis(500)).count();
    assert!((4_000..6_500).contains(&small), "orders of magnitude weigh the same: {small}");
}

#[test]
fn minimising_finds_the_few_items_that_matter() {
    let items: Vec<u32> = (0..500).collect();
    let mut asked = 0;
    let kept = minimise(&items, 1_000, |part| {
        asked += 1;
        part.contains(&17) && part.contains(&203) && part.contains(&204)
    });
    assert_eq!(kept, [17, 203, 204]);
    assert!(asked < 150, "{asked} questions");
    assert_eq!(minimise(&items, 1_000, |_| true), [] as [u32; 0]);
    let mut asked = 0;
    let limited = minimise(&items, 7, |part| {
        asked += 1;
        part.contains(&17)
    });
    assert!(asked <= 7 && limited.contains(&17) && limited.len() < 500);
}

#[test]
fn shrinking_keeps_what_fails_within_its_runs() {
    let plan = Plan::draw_with(6, |c| {
        let gap = Gap(Duration::from_millis(400));
        c.faults = [(FaultName::Crash, gap), (FaultName::Isolate, gap)].into();
        c.workloads = vec![Workload::Register];
    });
    let crash = plan.faults.iter().rfind(|f| f.kind == FaultKind::Crash).unwrap().clone();
    let isolate = plan.faults.iter().find(|f| f.kind == FaultKind::Isolate).unwrap().clone();
    let write = plan.ops[plan.ops.len() / 2].clone();
    let fails = |p: &Plan| {
        let has = |fault: &TimedFault| p.faults.iter().any(|f| f.salt == fault.salt);
        has(&crash) && has(&isolate) && p.ops.iter().any(|op| op.action == write.action)
    };
    let mut runs = 0;
    let shrunk = shrink(&plan, 200, |p| {
        runs += 1;
        fails(p)
    });
    assert!(fails(&shrunk.plan));
    assert_eq!((shrunk.plan.faults.len(), shrunk.plan.ops.len()), (2, 1));
    assert_eq!(shrunk.runs, runs);
    assert!(runs <= 200);
    assert!(shrunk.plan.config.phases.core <= plan.config.phases.core);
}
