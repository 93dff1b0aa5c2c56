//! The world on a strategy that is too simple to be wrong, and on broken variants of it: each must
//! be noticed, or the judge is worth nothing.

use std::time::Duration;

use super::*;
use crate::plan::{ClusterConfig, FaultKind, Role, TimedFault};
use crate::strategy::model::{Bug, Model};
use crate::time::SimTime;
use crate::workload::Workload;

/// Short runs: 8 s of faults, 4 s of core, then quiet.
fn short(config: &mut ClusterConfig) {
    config.phases.core = SimTime::from_secs(8);
    config.phases.heal = SimTime::from_secs(12);
    config.phases.end = SimTime::from_secs(40);
    config.quiescence = Duration::from_secs(3);
    config.op_deadline = Duration::from_secs(2);
}

fn plan(seed: u64) -> Plan {
    Plan::draw_with(seed, short)
}

fn only(seed: u64, workload: Workload) -> Plan {
    Plan::draw_with(seed, |config| {
        short(config);
        config.workloads = vec![workload];
    })
}

fn failures(report: &Report) -> Vec<String> {
    report.failures().map(|(judge, verdict)| describe(judge, verdict)).collect()
}

#[test]
fn a_correct_strategy_passes_under_every_fault() {
    let mut total = Stats::default();
    for seed in 0..20 {
        let report = run(Model::new(Bug::None), &plan(seed), &Options::default());
        assert_eq!(failures(&report), Vec::<String>::new(), "seed {seed}");
        total.add(&report.stats);
    }
    assert!(total.applied > 5_000, "{total}");
    assert!(total.unknown > 0, "some operations died with their node: {total}");
    assert!(total.faults.len() > 15, "{total}");
}

#[test]
fn equal_seeds_give_equal_runs_and_other_seeds_others() {
    let digest = |seed| {
        let report = run(Model::new(Bug::None), &plan(seed), &Options::default());
        (report.digest, report.events, report.history)
    };
    let (first, other) = (digest(3), digest(4));
    assert!(first == digest(3), "one seed, two runs");
    assert_ne!(first.0, other.0);
}

#[test]
fn every_planted_bug_is_noticed_by_its_judge() {
    for (bug, judge, workload) in [
        (Bug::LosesWrites, "loss", Workload::Set),
        (Bug::ReadsOld, "lin", Workload::Register),
        (Bug::RefusesAndApplies, "outcome", Workload::Register),
        (Bug::CountsTwice, "bounds", Workload::Counter),
        (Bug::StopsForEver, "liveness", Workload::Register),
        (Bug::PanicsAtRestart, "refused", Workload::Register),
        (Bug::RefusesToRestart, "refused", Workload::Register),
        (Bug::StopsByItself, "refused", Workload::Register),
    ] {
        let caught = (0..10).find(|seed| {
            let report = run(Model::new(bug), &only(*seed, workload), &Options::default());
            report.killed_by(judge)
        });
        assert!(caught.is_some(), "{bug:?} lives for 10 seeds without `{judge}` noticing");
    }
}

/// A plan with one fault only.
fn with_fault(kind: FaultKind, on: Role, lasts: Duration) -> Plan {
    let mut plan = Plan::draw_with(1, |config| {
        short(config);
        config.nodes = 3;
        config.core = vec![0, 1, 2];
        config.faults.clear();
    });
    plan.faults.push(TimedFault { at: SimTime::from_secs(2), lasts, kind, on, salt: 5 });
    plan
}

#[test]
fn a_killed_nodes_clients_know_nothing_and_the_node_comes_back() {
    let plan = with_fault(FaultKind::Crash, Role::All, Duration::from_secs(2));
    let report =
        run(Model::new(Bug::None), &plan, &Options { keep_events: 100_000, ..Options::default() });
    assert_eq!(failures(&report), Vec::<String>::new());
    assert_eq!(report.stats.boots, 6);
    let during = |from: u64, until: u64| {
        let applied = report.history.operations.iter().filter(move |o| {
            o.outcome == crate::history::Outcome::Applied
                && o.returned.is_some_and(|at| {
                    at > SimTime::from_millis(from) && at < SimTime::from_millis(until)
                })
        });
        applied.count()
    };
    assert_eq!(during(2_010, 4_000), 0, "nobody is there to answer");
    assert!(during(1_000, 2_000) > 0 && during(4_000, 6_000) > 0);
    let kills = report.last.iter().filter(|e| e.what == "kill").count();
    assert_eq!(kills, 6, "three by the fault, three at the end");
}

#[test]
fn faults_that_overlap_end_when_the_last_one_does() {
    let mut plan = with_fault(FaultKind::Crash, Role::Node(1), Duration::from_secs(1));
    let longer = TimedFault {
        at: SimTime::from_millis(2_500),
        lasts: Duration::from_secs(3),
        kind: FaultKind::PowerLoss,
        on: Role::Node(1),
        salt: 6,
    };
    plan.faults.push(longer);
    let report =
        run(Model::new(Bug::None), &plan, &Options { keep_events: 100_000, ..Options::default() });
    let boots: Vec<_> =
        report.last.iter().filter(|e| e.what == "boot" && e.node == 2).map(|e| e.at).collect();
    assert_eq!(boots, [Duration::ZERO, Duration::from_millis(5_500)]);
}

#[test]
fn a_restart_storm_restarts_at_once_each_time() {
    let kind = FaultKind::RestartStorm { times: 4 };
    let plan = with_fault(kind, Role::Node(0), Duration::from_secs(2));
    let report = run(Model::new(Bug::None), &plan, &Options::default());
    assert_eq!(report.stats.boots, 3 + 4);
}

#[test]
fn deleting_a_fault_leaves_the_operations_as_they_were() {
    let all = plan(9);
    let mut fewer = all.clone();
    fewer.faults.clear();
    let asked = |plan: &Plan| {
        let report = run(Model::new(Bug::None), plan, &Options::default());
        report.history.operations.iter().map(|o| (o.process.client, o.action)).collect::<Vec<_>>()
    };
    assert_eq!(all.ops, fewer.ops);
    assert!(!asked(&all).is_empty());
    assert!(asked(&fewer).len() >= asked(&all).len());
}

#[test]
fn a_panic_of_the_harness_itself_is_never_an_outcome_of_the_system() {
    let mut plan = plan(1);
    plan.config.nodes = 0;
    let report = run(Model::new(Bug::None), &plan, &Options::default());
    assert!(report.killed_by("harness"), "{:?}", report.verdicts);
    assert!(report.failures().all(|(judge, _)| *judge == "harness"), "{:?}", report.verdicts);
}
