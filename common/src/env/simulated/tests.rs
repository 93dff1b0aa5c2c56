//! The life of a simulated node: what a kill, a pause and a wrong clock do, and do not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use super::*;
use crate::env::{Env, SplitMix64};
use crate::ids::{Incarnation, NodeId};
use crate::storage::disk::{Disk, DiskError, File, Open};
use crate::transport::{CallError, Class, Handler, Transport};

/// A network that counts what is sent, per incarnation, and forgets it.
#[derive(Debug, Default)]
struct Sent(Mutex<Vec<Incarnation>>);

#[derive(Debug)]
struct CountingTransport {
    sent: Arc<Sent>,
    incarnation: Incarnation,
    alive: Arc<AtomicU64>,
}

#[async_trait]
impl Transport for CountingTransport {
    fn call(
        &self,
        to: NodeId,
        _: Class,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        Box::pin(async move { Err(CallError::TimedOut(to)) })
    }
    fn cast(&self, _: NodeId, _: Class, _: Bytes) -> Result<(), CallError> {
        if self.alive.load(Ordering::Relaxed) == self.incarnation.0 {
            self.sent.0.lock().unwrap().push(self.incarnation);
        }
        Ok(())
    }
    fn serve(&self, _: Arc<dyn Handler>) {}
    fn learn(&self, _: NodeId, _: &str) {}
    fn forget(&self, _: NodeId) {}
    async fn close(&self) {}
}

#[derive(Debug)]
struct NoDisk;

#[async_trait]
impl Disk for NoDisk {
    async fn open(&self, path: &str, _: Open) -> Result<Arc<dyn File>, DiskError> {
        Err(DiskError::NotFound(path.into()))
    }
    async fn list(&self, _: &str) -> Result<Vec<String>, DiskError> {
        Ok(Vec::new())
    }
    async fn create_dir(&self, _: &str) -> Result<(), DiskError> {
        Ok(())
    }
    async fn rename(&self, _: &str, _: &str) -> Result<(), DiskError> {
        Ok(())
    }
    async fn remove(&self, _: &str) -> Result<(), DiskError> {
        Ok(())
    }
    async fn remove_dir(&self, _: &str) -> Result<(), DiskError> {
        Ok(())
    }
    async fn sync_dir(&self, _: &str) -> Result<(), DiskError> {
        Ok(())
    }
}

struct Bench {
    world: SimWorldClock,
    trace: Trace,
    sent: Arc<Sent>,
    alive: Arc<AtomicU64>,
}

impl Bench {
    fn new() -> Self {
        Self {
            world: SimWorldClock::new(),
            trace: Trace::keeping(100),
            sent: Arc::default(),
            alive: Arc::default(),
        }
    }

    fn host(&self, node: u64) -> SimHost {
        SimHost::new(NodeId(node), &self.world, &SplitMix64::new(7), self.trace.clone())
    }

    fn boot(&self, host: &SimHost) -> Env {
        host.boot(|incarnation| {
            self.alive.store(incarnation.0, Ordering::Relaxed);
            let (sent, alive) = (self.sent.clone(), self.alive.clone());
            (Arc::new(CountingTransport { sent, incarnation, alive }), Arc::new(NoDisk))
        })
    }

    /// As the world kills: the network first.
    fn kill(&self, host: &SimHost) {
        self.alive.store(0, Ordering::Relaxed);
        host.kill();
    }
}

fn simulate<F: Future<Output = ()>>(test: impl FnOnce(Bench) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async { test(Bench::new()).await });
}

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// Counts seconds of its node's time until the node dies.
fn ticker(env: &Env) -> Arc<AtomicU64> {
    let ticks = Arc::new(AtomicU64::new(0));
    let (e, t) = (env.clone(), ticks.clone());
    drop(env.spawn("ticker", async move {
        loop {
            e.sleep(secs(1)).await;
            t.fetch_add(1, Ordering::Relaxed);
        }
    }));
    ticks
}

/// Does, when dropped, what a careless guard does: sends, and starts a task.
struct Careless {
    ran_in_scope: Arc<AtomicBool>,
    started: Arc<AtomicBool>,
}

impl Drop for Careless {
    fn drop(&mut self) {
        let env = Env::current().expect("dropped in its node's scope");
        self.ran_in_scope.store(env.node == NodeId(1), Ordering::Relaxed);
        env.transport.cast(NodeId(2), Class::Data, Bytes::from_static(b"late")).unwrap();
        let started = self.started.clone();
        drop(env.spawn("late", async move { started.store(true, Ordering::Relaxed) }));
    }
}

#[test]
fn a_killed_node_does_nothing_more_not_even_in_drop_code() {
    simulate(|bench| async move {
        let host = bench.host(1);
        let env = bench.boot(&host);
        let ticks = ticker(&env);
        let (ran_in_scope, started) = (Arc::default(), Arc::default());
        let guard =
            Careless { ran_in_scope: Arc::clone(&ran_in_scope), started: Arc::clone(&started) };
        let e = env.clone();
        let task = env.spawn("sender", async move {
            let _guard = guard;
            loop {
                e.transport.cast(NodeId(2), Class::Data, Bytes::new()).unwrap();
                e.sleep(secs(1)).await;
            }
        });
        bench.world.sleep_until(Duration::from_millis(2500)).await;
        assert_eq!((host.life(), host.tasks()), (Life::Up, 2));
        bench.kill(&host);
        // At once, not at the next turn of the runtime.
        assert!(ran_in_scope.load(Ordering::Relaxed), "the guard's drop code ran in the scope");
        assert_eq!((host.life(), host.tasks()), (Life::Down, 0));
        bench.world.sleep_until(secs(60)).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 2);
        assert_eq!(bench.sent.0.lock().unwrap().len(), 3, "sent at 0, 1 and 2 s");
        assert!(!started.load(Ordering::Relaxed), "a dead node starts nothing");
        assert!(task.await.is_err());
        assert!(host.take_panics().is_empty());
        assert!(Env::current().is_none());
    });
}

#[test]
fn a_node_can_kill_itself_from_its_own_task() {
    simulate(|bench| async move {
        let host = bench.host(1);
        let env = bench.boot(&host);
        let ticks = ticker(&env);
        let h = host.clone();
        let reached = Arc::new(AtomicBool::new(false));
        let r = reached.clone();
        drop(env.spawn("suicide", async move {
            h.kill();
            tokio::task::yield_now().await;
            r.store(true, Ordering::Relaxed);
        }));
        bench.world.sleep_until(secs(5)).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 0);
        assert!(!reached.load(Ordering::Relaxed));
    });
}

#[test]
fn every_boot_is_a_new_incarnation_with_streams_of_its_own() {
    simulate(|bench| async move {
        let (one, two) = (bench.host(1), bench.host(2));
        let first = bench.boot(&one);
        let drawn = first.rng.stream("election").next_u64();
        let _ = first.rng.next_u64();
        assert_eq!(drawn, first.rng.stream("election").next_u64(), "draws elsewhere shift nothing");
        assert_ne!(drawn, first.rng.stream("other").next_u64());
        assert_ne!(drawn, bench.boot(&two).rng.stream("election").next_u64());
        let ticks = ticker(&first);
        let second = bench.boot(&one);
        assert_eq!((first.incarnation, second.incarnation), (Incarnation(1), Incarnation(2)));
        assert_ne!(drawn, second.rng.stream("election").next_u64());
        bench.world.sleep_until(secs(3)).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 0, "booting again killed the first life");
    });
}

#[test]
fn a_paused_node_stands_still_and_its_timers_fire_late() {
    simulate(|bench| async move {
        let host = bench.host(1);
        let env = bench.boot(&host);
        let fired = Arc::new(Mutex::new(Vec::new()));
        for after in [1, 3, 20] {
            let (e, fired) = (env.clone(), fired.clone());
            let world = bench.world;
            drop(env.spawn("timer", async move {
                e.sleep(secs(after)).await;
                fired.lock().unwrap().push((after, world.elapsed().as_secs()));
            }));
        }
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel::<u32>();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let h = heard.clone();
        drop(env.spawn("listener", async move {
            while let Some(word) = told.recv().await {
                h.lock().unwrap().push(word);
            }
        }));
        bench.world.sleep_until(secs(2)).await;
        host.pause();
        tell.send(1).unwrap();
        bench.world.sleep_until(secs(8)).await;
        tell.send(2).unwrap();
        bench.world.sleep_until(secs(12)).await;
        assert_eq!(host.life(), Life::Paused);
        assert_eq!(*fired.lock().unwrap(), [(1, 1)]);
        assert!(heard.lock().unwrap().is_empty());
        host.resume();
        bench.world.sleep_until(secs(30)).await;
        assert_eq!(*fired.lock().unwrap(), [(1, 1), (3, 12), (20, 20)]);
        assert_eq!(*heard.lock().unwrap(), [1, 2]);
    });
}

#[test]
fn a_node_killed_while_paused_stays_dead() {
    simulate(|bench| async move {
        let host = bench.host(1);
        let env = bench.boot(&host);
        let ticks = ticker(&env);
        host.pause();
        bench.world.sleep_until(secs(5)).await;
        bench.kill(&host);
        host.resume();
        bench.world.sleep_until(secs(10)).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn drift_changes_only_one_nodes_timers_also_sleeping_ones() {
    simulate(|bench| async move {
        let (one, two) = (bench.host(1), bench.host(2));
        let (fast, right) = (bench.boot(&one), bench.boot(&two));
        one.set_drift(50_000);
        let (a, b) = (ticker(&fast), ticker(&right));
        let world = bench.world;
        let began = fast.now();
        bench.world.sleep_until(Duration::from_millis(100_500)).await;
        assert_eq!(b.load(Ordering::Relaxed), 100);
        let ahead = a.load(Ordering::Relaxed);
        // Each of its seconds rounds up to the runtime's millisecond: 953 ms instead of 952.38.
        assert!((104..=105).contains(&ahead), "{ahead}");
        assert_eq!((fast.now() - began).as_micros(), 105_525_000);
        // A long sleep takes a new speed at once, in both directions.
        let slept = |env: &Env| {
            let e = env.clone();
            env.spawn("sleeper", async move {
                e.sleep(secs(100)).await;
                world.elapsed()
            })
        };
        one.set_drift(0);
        let before = world.elapsed();
        let task = slept(&fast);
        world.sleep_until(before + secs(50)).await;
        one.set_drift(1_000_000);
        let woke = task.await.unwrap().saturating_sub(before);
        assert!((75_000..=75_001).contains(&woke.as_millis()), "{woke:?}");
        one.set_drift(0);
        let before = world.elapsed();
        let task = slept(&fast);
        world.sleep_until(before + secs(50)).await;
        one.set_drift(-500_000);
        let woke = task.await.unwrap().saturating_sub(before);
        assert!((150_000..=150_001).contains(&woke.as_millis()), "{woke:?}");
    });
}

#[test]
fn wall_time_jumps_and_monotonic_time_does_not_notice() {
    simulate(|bench| async move {
        let host = bench.host(1);
        let env = bench.boot(&host);
        let (mono, wall) = (env.now(), env.clock.wall_millis());
        let ticks = ticker(&env);
        host.set_offset(3_600_000);
        assert_eq!(env.clock.wall_millis(), wall + 3_600_000);
        host.jump(-7_200_000);
        assert_eq!(env.clock.wall_millis(), wall - 3_600_000);
        assert_eq!(env.now(), mono);
        bench.world.sleep_until(Duration::from_millis(10_500)).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 10);
        assert_eq!(env.clock.wall_millis(), wall - 3_600_000 + 10_500);
        bench.kill(&host);
        bench.world.sleep_until(secs(20)).await;
        let again = bench.boot(&host);
        assert_eq!(again.now(), mono, "a boot's monotonic clock begins anew");
        assert_eq!(again.clock.wall_millis(), wall - 3_600_000 + 20_000);
    });
}

#[test]
fn a_panic_in_a_task_is_reported_and_the_world_goes_on() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop code");
        }
    }
    simulate(|bench| async move {
        let host = bench.host(1);
        let env = bench.boot(&host);
        let ticks = ticker(&env);
        let task = env.spawn("applier", async { panic!("index {} is gone", 7) });
        assert!(task.await.is_err());
        let panics = host.take_panics();
        assert_eq!(panics.len(), 1);
        assert_eq!((panics[0].task, panics[0].incarnation), ("applier", Incarnation(1)));
        assert_eq!(panics[0].message, "index 7 is gone");
        assert!(panics[0].location.as_deref().unwrap().contains("tests.rs"));
        drop(env.spawn("bomb", async {
            let _bomb = Bomb;
            std::future::pending::<()>().await;
        }));
        bench.world.sleep_until(Duration::from_millis(2500)).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 2, "the node's other tasks go on");
        bench.kill(&host);
        assert_eq!(host.take_panics()[0].message, "in drop code");
        assert!(bench.trace.last().iter().any(|event| event.what == "panic"));
    });
}

#[test]
fn an_aborted_task_is_dropped_in_its_nodes_scope() {
    simulate(|bench| async move {
        let host = bench.host(1);
        let env = bench.boot(&host);
        let (ran_in_scope, started) = (Arc::default(), Arc::default());
        let guard =
            Careless { ran_in_scope: Arc::clone(&ran_in_scope), started: Arc::clone(&started) };
        let task = env.spawn("guarded", async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        task.abort();
        assert!(task.await.is_err());
        bench.world.sleep_until(secs(1)).await;
        assert!(ran_in_scope.load(Ordering::Relaxed));
        assert!(started.load(Ordering::Relaxed), "the node lives: what its drop code starts runs");
        assert_eq!(host.tasks(), 0);
    });
}

#[test]
fn the_trace_tells_apart_what_differs_and_keeps_the_last_events() {
    let (one, two, three) = (Trace::keeping(2), Trace::default(), Trace::default());
    for trace in [&one, &two] {
        trace.note(1_500_000, 1, "send", b"abc");
        trace.note(2_000_000, 2, "receive", b"abc");
        trace.note(3_000_000, 2, "sync", b"");
    }
    for (nanos, node, what, payload) in
        [(1_500_000, 1, "send", b"abc"), (2_000_000, 2, "receive", b"abd")]
    {
        three.note(nanos, node, what, payload);
    }
    three.note(3_000_000, 2, "sync", b"");
    assert_eq!(one.digest(), two.digest());
    assert_ne!(one.digest().0, three.digest().0);
    assert_eq!(one.digest().1, 3);
    let last: Vec<String> = one.last().iter().map(ToString::to_string).collect();
    assert_eq!(last.len(), 2);
    assert!(last[0].starts_with("    0.002000 n2 receive (3 bytes"), "{}", last[0]);
    assert!(two.last().is_empty());
}
