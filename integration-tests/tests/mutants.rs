//! Planted bugs: each must be found by the judge that is there to find it, and nothing may be found
//! where none is planted. A green simulator that lets them live proves nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use integration_tests::mutant;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Names of `mutate!("..."` under a folder, with the files that have them.
fn planted(folder: &Path, found: &mut BTreeMap<String, BTreeSet<PathBuf>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            planted(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("src/mutant.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for after in text.split("mutate!(").skip(1) {
                let literal = after.trim_start().strip_prefix('"').and_then(|a| a.split_once('"'));
                let (name, _) =
                    literal.unwrap_or_else(|| panic!("no literal in {}", path.display()));
                let file = path.canonicalize().unwrap();
                found.entry(name.to_owned()).or_default().insert(file);
            }
        }
    }
}

#[test]
fn the_list_and_the_sources_have_the_same_mutants() {
    let mut found = BTreeMap::new();
    for krate in ["common", "leader"] {
        planted(&root().join(krate).join("src"), &mut found);
    }
    let listed: BTreeMap<_, _> = mutant::all()
        .into_iter()
        .map(|mutant| {
            let file = root().join(&mutant.file).canonicalize();
            let file = file.unwrap_or_else(|e| panic!("{}: {}: {e}", mutant.name, mutant.file));
            (mutant.name, BTreeSet::from([file]))
        })
        .collect();
    assert_eq!(found, listed, "left: planted in the sources; right: in mutants.toml");
    let lines: usize = found.len();
    assert!(lines <= 40, "{lines} mutants are too many lines in code that is to be studied");
}

#[cfg(feature = "mutants")]
mod hunt {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use common::env::simulated::{SimWorldClock, Trace};
    use common::ids::{ClusterId, Epoch, Incarnation, LogPos, NodeId};
    use common::token::LogToken;
    use integration_tests::mutant::{self, Fate, Mutant, PROPERTY};
    use integration_tests::sweep::Subject;
    use integration_tests::world::Options;

    fn run(
        plan: &integration_tests::plan::Plan,
        options: &Options,
    ) -> integration_tests::world::Report {
        Subject::Leader.run(plan, options)
    }

    /// What became of a mutant that clusters are to show, in words, and whether that is well.
    fn hunt(mutant: &Mutant) -> (bool, String) {
        match mutant.hunt(run) {
            Fate::Alive { others } => {
                let others = others.into_iter().take(3).collect::<Vec<_>>().join("\n    ");
                (false, format!("alive after {} seeds\n    {others}", mutant.budget))
            }
            Fate::Killed { seed, said } => {
                let said = said.lines().next().unwrap_or_default().to_owned();
                // The same mix without the bug has nothing to be found.
                for seed in 0..=seed {
                    let report = run(&mutant.plan(seed), &Options::default());
                    if !report.passed() {
                        let failures: Vec<_> = report.failures().map(|(judge, _)| *judge).collect();
                        return (false, format!("seed {seed} fails without it, by {failures:?}"));
                    }
                }
                (true, said)
            }
        }
    }

    #[test]
    fn every_mutant_is_killed_by_its_judge_within_its_budget() {
        let mutants: Vec<_> =
            mutant::all().into_iter().filter(|mutant| mutant.killed_by != PROPERTY).collect();
        let (next, alive) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|threads| {
            for _ in 0..workers {
                threads.spawn(|| {
                    while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let (killed, said) = hunt(mutant);
                        println!("{:28} {said}", mutant.name);
                        alive.fetch_add(usize::from(!killed), Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(alive.into_inner(), 0, "mutants are alive, or their mix fails without them");
    }

    /// Whether a property that a mutant breaks still holds, for those that no cluster shows.
    fn holds(property: &str) -> bool {
        match property {
            "token_join_keeps_left" => {
                let mut old = LogToken::new(ClusterId(1), Epoch(0));
                old.saw_committed(LogPos { term: 1, index: 1 });
                let mut new = old.clone();
                new.saw_committed(LogPos { term: 1, index: 2 });
                old.join(&new) == new.join(&old)
            }
            "damage_in_the_middle_cut" => damage_is_refused(),
            other => panic!("no property kills {other}: write one"),
        }
    }

    /// A log of two groups whose first is damaged at rest.
    fn damage_is_refused() -> bool {
        use common::env::simulated::SimHost;
        use common::storage::disk::simulated::{SimDisk, SimDiskConfig};
        use common::storage::wal::{Lsn, Replay, Wal, WalConfig};
        use common::transport::simulated::{SimNetwork, SimNetworkConfig};

        struct Nobody;
        impl Replay for Nobody {
            fn record(&mut self, _: Lsn, _: bytes::Bytes) -> Result<(), String> {
                Ok(())
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (world, rng) = (SimWorldClock::new(), common::env::SplitMix64::new(1));
            let net = SimNetwork::new(&world, &rng, Trace::default(), SimNetworkConfig::default());
            let node = NodeId(1);
            let disk = SimDisk::new(node, &world, &rng, Trace::default(), SimDiskConfig::instant());
            let host = SimHost::new(node, &world, &rng, Trace::default());
            let boot = || {
                host.boot(|incarnation: Incarnation| {
                    (net.attach(node, incarnation), disk.mount(incarnation))
                })
            };
            let env = boot();
            let wal = Wal::open(&env, "wal", WalConfig::default(), &mut Nobody).await.unwrap();
            for n in 0..3_u8 {
                wal.append(vec![vec![n; 64].into()], |_| {});
                wal.sync().await.unwrap();
            }
            wal.close().await.unwrap();
            disk.crash();
            host.kill();
            let (name, _) =
                disk.files().into_iter().find(|(name, _)| name.contains("wal/")).unwrap();
            disk.flip(&name, 100, 0x10);
            let opened = Wal::open(&boot(), "wal", WalConfig::default(), &mut Nobody).await;
            opened.is_err()
        })
    }

    #[test]
    fn what_no_cluster_shows_a_property_does() {
        let mutants = mutant::all();
        let properties: Vec<_> = mutants.iter().filter(|m| m.killed_by == PROPERTY).collect();
        assert!(!properties.is_empty());
        for mutant in properties {
            assert!(holds(&mutant.name), "{} is broken without the mutant", mutant.name);
            common::mutant::select(mutant::static_name(&mutant.name));
            let held = holds(&mutant.name);
            common::mutant::select(None);
            assert!(!held, "{} is alive", mutant.name);
        }
    }
}
