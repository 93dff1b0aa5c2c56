//! The crate `leader` under five hundred drawn plans: no promise is broken, and the rare paths are
//! taken.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use integration_tests::plan::{FaultName, Gap, Plan};
use integration_tests::strategy::leader::Leader;
use integration_tests::sweep::{Length, Line, Subject, Summary};
use integration_tests::workload::Workload;
use integration_tests::world::{Options, Stats, describe, run};
use leader::quota::{Limit, Quota};

const SEEDS: u64 = 500;

/// Rare paths that these plans must take.
const RARE: &[&str] = &[
    "checkpointed",
    "dedup-hit",
    "group-over-8",
    "log-poisoned",
    "read-waited-for-apply",
    "reads-shared-a-round",
    "segment-rolled",
    "snapshot-installed",
    "torn-tail-cut",
    "transfer-completed",
    "vote-gate-closed",
    "write-forwarded",
    "write-unknown",
    "writer-went-back",
];

/// Runs seeds on all cores: a seed is one run, whatever runs beside it.
fn sweep() -> Summary {
    let next = AtomicU64::new(0);
    let summary = Mutex::new(Summary::default());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|threads| {
        for _ in 0..workers {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= SEEDS {
                        return;
                    }
                    let report =
                        Subject::Leader.run(&Length::Short.plan(seed), &Options::default());
                    let line = Line::of(&report);
                    summary.lock().unwrap_or_else(PoisonError::into_inner).add(line);
                }
            });
        }
    });
    summary.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn five_hundred_seeds_break_no_promise_and_take_the_rare_paths() {
    let summary = sweep();
    println!("{summary}");
    for line in &summary.failed {
        for (_, said) in &line.failures {
            println!("\nseed {}: {said}\nrepeat with: cargo sim --seed {}", line.seed, line.seed);
        }
    }
    let broken: Vec<_> = summary.failed.iter().map(|line| line.seed).collect();
    assert!(broken.is_empty(), "promises were broken in seeds {broken:?}");
    assert!(summary.undecided <= SEEDS / 20, "{} verdicts undecided", summary.undecided);
    assert!(summary.stats.claims > SEEDS && summary.stats.samples > SEEDS, "{}", summary.stats);
    assert!(summary.stats.watched > SEEDS, "{}", summary.stats);
    let fired: BTreeSet<&str> = summary.marks.keys().map(String::as_str).collect();
    for path in RARE {
        assert!(fired.contains(path), "no seed took the path {path}: {fired:?}");
    }
}

/// Equal machines have equal hashes at every position, whatever fails: nobody is ever quarantined
/// without a reason, and the checks are in nobody's way.
#[test]
fn members_that_compare_their_states_every_second_never_differ() {
    let mut summary = Summary::default();
    for seed in 2_000..2_040 {
        let plan = Length::Short.plan(seed);
        let strategy = Leader::new(&plan.config).comparing_every(Duration::from_secs(1));
        summary.add(Line::of(&run(strategy, &plan, &Options::default())));
    }
    let broken: Vec<_> = summary.failed.iter().map(|line| line.seed).collect();
    assert!(broken.is_empty(), "promises were broken in seeds {broken:?}");
    assert!(summary.marks.contains_key("states-compared-equal"), "{:?}", summary.marks);
    assert!(!summary.marks.contains_key("divergence-quarantined"), "{:?}", summary.marks);
}

/// Behaviour 18 of the design, for quotas: what is refused is not applied, every member counts alike,
/// and none ever has more than it may.
#[test]
fn no_member_grows_over_its_quota_whatever_fails() {
    let mut summary = Summary::default();
    for seed in 3_000..3_040 {
        let plan = Length::Short.plan(seed);
        let keys = Limit { soft: Some(5), hard: Some(20) };
        let bytes = Limit { soft: None, hard: Some(900) };
        let strategy = Leader::new(&plan.config).within(Quota { bytes, keys });
        summary.add(Line::of(&run(strategy, &plan, &Options::default())));
    }
    for line in &summary.failed {
        println!("seed {}: {:?}", line.seed, line.failures);
    }
    assert!(summary.failed.is_empty());
    assert!(summary.marks.contains_key("quota-refused"), "{:?}", summary.marks);
}

/// Plans that once failed, made small. They stay, whatever a seed draws by then.
#[test]
fn plans_that_once_failed_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/regressions");
    let mut passed = 0;
    for file in std::fs::read_dir(folder).expect("the folder of plans") {
        let path = file.expect("an entry of the folder").path();
        let text = std::fs::read_to_string(&path).expect("a plan");
        let plan = Plan::from_json(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let report = Subject::Leader.run(&plan, &Options::default());
        let said: Vec<_> =
            report.failures().map(|(judge, verdict)| describe(judge, verdict)).collect();
        assert!(said.is_empty(), "{}: {said:?}", path.display());
        passed += 1;
    }
    assert!(passed > 0, "there are plans");
}

/// Leaders that are cut off acknowledge early for as long as their lease lasts. What a failover then
/// takes away is what receipts say is lost: no more, and no less.
#[test]
fn what_cut_off_leaders_acknowledged_and_lost_is_exactly_what_receipts_say() {
    let mut stats = Stats::default();
    for seed in 0..24 {
        let plan = Plan::draw_with(seed, |config| {
            Length::Short.set(config);
            config.nodes = if seed % 2 == 0 { 3 } else { 5 };
            config.core = (0..config.nodes).collect();
            config.workloads = vec![Workload::Set, Workload::Register];
            (config.fast, config.sessions) = (100, 0);
            (config.clients, config.op_gap) = (8, Duration::from_millis(5));
            let gap = |millis| Gap(Duration::from_millis(millis));
            let faults = [(FaultName::Isolate, gap(1_000)), (FaultName::Halves, gap(2_000))];
            config.faults = faults.into_iter().collect();
        });
        let report = Subject::Leader.run(&plan, &Options::default());
        let said: Vec<_> =
            report.failures().map(|(judge, verdict)| describe(judge, verdict)).collect();
        assert!(said.is_empty(), "seed {seed}: {said:?}");
        stats.add(&report.stats);
    }
    println!("{stats}");
    assert!(stats.lost > 3, "{} of {} early writes were lost", stats.lost, stats.early);
}
