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
    assert!(lines <= 60, "{lines} mutants are too many lines in code that is to be studied");
}

#[cfg(feature = "mutants")]
mod hunt {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use common::env::simulated::{SimHost, SimWorldClock, Trace};
    use common::env::{Env, SplitMix64};
    use common::ids::{ClusterId, Epoch, Incarnation, LogPos, NodeId};
    use common::storage::disk::simulated::{SimDisk, SimDiskConfig};
    use common::storage::engine::MemoryEngines;
    use common::storage::wal::{Lsn, Replay, Wal, WalConfig};
    use common::token::LogToken;
    use common::transport::Class;
    use common::transport::simulated::{SimNetwork, SimNetworkConfig};
    use integration_tests::mutant::{self, Fate, Mutant, PROPERTY, SCENARIO};
    use integration_tests::sweep::Subject;
    use integration_tests::world::Options;
    use leader::key_value::Command;
    use leader::message::{Candidacy, Cause, Request, Vote};
    use leader::quota::{Limit, Quota};
    use leader::{KeyValue, Member, Node, ReadLevel, ReadOptions, ReplicationMode, WriteOptions};

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
        let scripted = |judge: &str| judge == PROPERTY || judge == SCENARIO;
        let mutants = mutant::all().into_iter().filter(|mutant| !scripted(&mutant.killed_by));
        let mutants: Vec<_> = mutants.collect();
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
            "damage_in_the_middle_cut" => in_paused_time(damage_is_refused()),
            "acknowledged_without_lease" => in_paused_time(acknowledgements_end_with_the_lease()),
            "votes_right_after_restart" => in_paused_time(a_restarted_voter_gives_no_vote()),
            "nobody_prefers_the_freshest" => in_paused_time(the_freshest_is_elected()),
            "snapshot_reads_the_present" => in_paused_time(reads_at_a_position_see_one_state()),
            "quota_refuses_deletes" => in_paused_time(a_full_state_lets_a_delete_pass()),
            other => panic!("no property kills {other}: write one"),
        }
    }

    fn in_paused_time<T>(claim: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(claim)
    }

    /// A simulated machine on a network of its own.
    struct Machine {
        net: SimNetwork,
        disk: SimDisk,
        host: SimHost,
    }

    const NODE: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);

    impl Machine {
        fn new() -> Self {
            let (world, rng) = (SimWorldClock::new(), SplitMix64::new(1));
            let trace = Trace::default();
            let net = SimNetwork::new(&world, &rng, trace.clone(), SimNetworkConfig::default());
            let disk = SimDisk::new(NODE, &world, &rng, trace.clone(), SimDiskConfig::instant());
            Self { net, disk, host: SimHost::new(NODE, &world, &rng, trace) }
        }

        fn boot(&self) -> Env {
            self.host.boot(|incarnation| {
                (self.net.attach(NODE, incarnation), self.disk.mount(incarnation))
            })
        }

        fn kill(&self) {
            self.disk.crash();
            self.host.kill();
        }
    }

    /// A log of three groups whose first is damaged at rest.
    async fn damage_is_refused() -> bool {
        struct Nobody;
        impl Replay for Nobody {
            fn record(&mut self, _: Lsn, _: Bytes) -> Result<(), String> {
                Ok(())
            }
        }
        let machine = Machine::new();
        let env = machine.boot();
        let wal = Wal::open(&env, "wal", WalConfig::default(), &mut Nobody).await.unwrap();
        for n in 0..3_u8 {
            wal.append(vec![vec![n; 64].into()], |_| {});
            wal.sync().await.unwrap();
        }
        wal.close().await.unwrap();
        machine.kill();
        let files = machine.disk.files();
        let (name, _) = files.into_iter().find(|(name, _)| name.contains("wal/")).unwrap();
        machine.disk.flip(&name, 100, 0x10);
        Wal::open(&machine.boot(), "wal", WalConfig::default(), &mut Nobody).await.is_err()
    }

    /// One of three voters has voted, is started again, and is asked for a vote at once.
    async fn a_restarted_voter_gives_no_vote() -> bool {
        let machine = Machine::new();
        let open = async |env: &Env| {
            let engines = Arc::new(MemoryEngines::on_disk(env.disk.clone(), "engine"));
            let config = leader::Config::new(NODE, "simulated");
            Node::open(env.clone(), engines, KeyValue, config).await.unwrap()
        };
        let members = [1, 2, 3].map(|id| Member { id: NodeId(id), address: format!("node-{id}") });
        let node = open(&machine.boot()).await;
        node.bootstrap(members.to_vec()).await.unwrap();
        let asked = node.wait_until(Duration::from_secs(10), |status| status.term > 0).await;
        let term = asked.unwrap().term + 1;
        machine.kill();
        let _node = open(&machine.boot()).await;
        let candidate = machine.net.attach(OTHER, Incarnation(1));
        let vote = Vote { term, node: OTHER, established: false };
        let last = Some(LogPos { term, index: 9 });
        let asks = Request::Vote(Candidacy { vote, last, cause: Cause::Silence });
        let patience = Duration::from_millis(100);
        candidate.call(NODE, Class::Control, asks.encode(), patience).await.is_err()
    }

    /// Members with their machines, and who leads them.
    struct Group {
        net: SimNetwork,
        members: Vec<(Node<KeyValue>, SimHost, SimDisk)>,
        leader: NodeId,
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn group(count: u64) -> Group {
        let (world, rng) = (SimWorldClock::new(), SplitMix64::new(1));
        let net = SimNetwork::new(&world, &rng, Trace::default(), SimNetworkConfig::default());
        let member = |id| Member { id: NodeId(id), address: format!("node-{id}") };
        let mut members = Vec::new();
        for id in (1..=count).map(NodeId) {
            let instant = SimDiskConfig::instant();
            let disk = SimDisk::new(id, &world, &rng, Trace::default(), instant);
            let host = SimHost::new(id, &world, &rng, Trace::default());
            let env = host.boot(|life| (net.attach(id, life), disk.mount(life)));
            let engines = Arc::new(MemoryEngines::on_disk(env.disk.clone(), "engine"));
            let config = leader::Config::new(id, "simulated");
            members.push((Node::open(env, engines, KeyValue, config).await.unwrap(), host, disk));
        }
        let first = &members[0].0;
        first.bootstrap((1..=count).map(member).collect()).await.unwrap();
        let leads = first.wait_until(PATIENCE, |s| s.leader.is_some()).await.unwrap().leader;
        Group { net, members, leader: leads.unwrap() }
    }

    /// Of five, only the leader and one follower hold a write when the leader dies.
    async fn the_freshest_is_elected() -> bool {
        let Group { net, members, leader } = group(5).await;
        let of = |id| members.iter().find(|(node, ..)| node.id() == id).unwrap();
        let write = |text: &'static str| {
            let mode = ReplicationMode::SemiSync { followers: 1 };
            of(leader).0.write(Command::set("key", text), WriteOptions::mode(mode))
        };
        write("first").await.unwrap();
        // The last one by its id holds it: the others would ask before it.
        let holder = members.iter().map(|(node, ..)| node.id()).filter(|id| *id != leader).max();
        let others = members.iter().map(|(node, ..)| node.id());
        for other in others.filter(|id| *id != leader && Some(*id) != holder) {
            net.cut(leader, other);
        }
        write("held by two").await.unwrap();
        let (_, host, disk) = of(leader);
        disk.crash();
        host.kill();
        net.vanish(leader);
        let (node, ..) = of(holder.unwrap());
        let view = node.view(ReadOptions::level(ReadLevel::Strong)).await.unwrap();
        let record = KeyValue::get(&view, view.clock(), b"key").unwrap();
        record.is_some_and(|record| record.value == b"held by two"[..])
    }

    /// A snapshot is kept, a key is overwritten, and it is read at the snapshot's position.
    async fn reads_at_a_position_see_one_state() -> bool {
        let Group { members, .. } = group(1).await;
        let (node, ..) = &members[0];
        let write = |value| node.write(Command::put("key", value), WriteOptions::default());
        write("old").await.unwrap();
        let at = node.snapshot(ReadOptions::default()).await.unwrap().applied();
        write("new").await.unwrap();
        let view = node.view(ReadOptions::level(ReadLevel::At(at))).await.unwrap();
        let record = KeyValue::get(&view, view.clock(), b"key").unwrap();
        record.is_some_and(|record| record.value == b"old"[..])
    }

    /// One member is full by its quota; what does not grow it is still taken.
    async fn a_full_state_lets_a_delete_pass() -> bool {
        let Group { members, .. } = group(1).await;
        let (node, ..) = &members[0];
        let write = |command| node.write(command, WriteOptions::default());
        for n in 0..9 {
            write(Command::put(format!("key {n}"), "value")).await.unwrap();
        }
        let keys = Limit { soft: None, hard: Some(5) };
        let quota = Quota { keys, ..Quota::default() };
        node.set_quota(quota, PATIENCE).await.unwrap();
        let over = write(Command::put("one", "more")).await.is_err();
        // Still over the limit, and nothing new.
        over && write(Command::put("key 1", "other")).await.is_ok()
    }

    /// The leader of three is cut off. It takes an asynchronous write while it has its lease, and its
    /// disk has it only when the lease is over.
    async fn acknowledgements_end_with_the_lease() -> bool {
        let Group { net, members, leader } = group(3).await;
        let (node, _, disk) = members.iter().find(|(node, ..)| node.id() == leader).unwrap();
        let write = || {
            let mut options = WriteOptions::mode(ReplicationMode::Async);
            options.timeout = Duration::from_secs(5);
            node.write(Command::set("key", "value"), options)
        };
        write().await.unwrap();
        net.isolate(leader);
        disk.stall_syncs(true);
        let late = write();
        tokio::time::sleep(Duration::from_secs(2)).await;
        disk.stall_syncs(false);
        late.await.is_err()
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
