use std::sync::Mutex;

use common::ids::NodeId;
use openraft::testing::runtime::Suite;

use super::*;
use crate::raft::testing::Machine;

/// One simulated node, in whose scope everything runs.
pub(super) struct TestRuntime {
    tokio: tokio::runtime::Runtime,
    env: Env,
}

impl fmt::Debug for TestRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestRuntime")
    }
}

impl TestRuntime {
    pub(super) fn new() -> Self {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let env = tokio.block_on(async { Machine::new(1).boot() });
        Self { tokio, env }
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.tokio.block_on(self.env.scope(future))
    }
}

#[test]
fn openrafts_own_suite_passes() {
    Suite::<EnvRuntime>::test_all();
}

#[test]
fn randomness_repeats_with_the_seed() {
    use rand_core::Rng as _;
    let draw = || {
        let runtime = TestRuntime::new();
        runtime.block_on(async {
            let mut drawn = Vec::new();
            for _ in 0..4 {
                drawn.push(EnvRuntime::thread_rng().next_u64());
            }
            drawn
        })
    };
    let first = draw();
    assert_eq!(first, draw());
    assert!(first.windows(2).all(|pair| pair[0] != pair[1]), "each call draws anew: {first:?}");
}

#[test]
fn a_panic_of_a_task_is_told_from_an_abort() {
    TestRuntime::new().block_on(async {
        let panicking = EnvRuntime::spawn(async { panic!("as intended by the test") });
        let error: JoinError = EnvTask::<()>::into_future(panicking).await.unwrap_err();
        assert!(EnvRuntime::is_panic(&error));
        let aborted = EnvRuntime::spawn(std::future::pending::<()>());
        aborted.task.abort();
        assert!(!EnvRuntime::is_panic(&aborted.await.unwrap_err()));
    });
}

#[test]
#[should_panic(expected = "openraft is called outside the scope of a node")]
fn outside_a_scope_the_runtime_refuses_by_name() {
    let _ = <EnvInstant as openraft::Instant>::now();
}

#[test]
fn tasks_run_in_the_scope_of_their_node() {
    TestRuntime::new().block_on(async {
        let seen = Arc::new(Mutex::new(None));
        let note = seen.clone();
        EnvRuntime::spawn(async move {
            EnvRuntime::sleep(Duration::from_millis(5)).await;
            *note.lock().unwrap() = Env::current().map(|env| env.node);
        })
        .await
        .unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(NodeId(1)));
    });
}
