//! The tasks of one boot of a node: polled, paused, and dropped together.
#![expect(clippy::disallowed_methods, reason = "this is a side of the seams")]

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;

use super::clock::SimWorldClock;
use super::trace::Trace;
use crate::env::Spawn;
use crate::ids::{Incarnation, NodeId};

/// A panic in a task of a node, or in what the task dropped. The node's other tasks go on: what a
/// panic means for the run is for its judge to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePanic {
    /// The node.
    pub node: NodeId,
    /// Its boot.
    pub incarnation: Incarnation,
    /// The name the task was started under.
    pub task: &'static str,
    /// What it panicked with.
    pub message: String,
    /// Where in the source, when known.
    pub location: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Paused,
    Dead,
}

/// What all tasks of one boot share.
pub(super) struct Boot {
    node: NodeId,
    incarnation: Incarnation,
    world: SimWorldClock,
    trace: Trace,
    panics: Panics,
    tasks: Mutex<Tasks>,
}

struct Tasks {
    phase: Phase,
    next: u64,
    running: BTreeMap<u64, Arc<Slot>>,
    /// Who was woken while paused.
    woken: BTreeMap<u64, Waker>,
}

/// Where a task's future lives, so that killing its node can drop it without the runtime.
struct Slot {
    name: &'static str,
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    abort: Mutex<Option<tokio::task::AbortHandle>>,
}

impl Slot {
    fn take(&self) -> Option<BoxFuture<'static, ()>> {
        self.future.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl std::fmt::Debug for Boot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tasks = self.tasks();
        f.debug_struct("Boot")
            .field("node", &self.node)
            .field("incarnation", &self.incarnation)
            .field("phase", &tasks.phase)
            .field("tasks", &tasks.running.len())
            .finish_non_exhaustive()
    }
}

impl Boot {
    pub(super) fn new(
        node: NodeId,
        incarnation: Incarnation,
        world: SimWorldClock,
        trace: Trace,
        panics: Panics,
    ) -> Arc<Self> {
        let tasks = Mutex::new(Tasks {
            phase: Phase::Running,
            next: 0,
            running: BTreeMap::new(),
            woken: BTreeMap::new(),
        });
        Arc::new(Self { node, incarnation, world, trace, panics, tasks })
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(super) fn is_paused(&self) -> bool {
        self.tasks().phase == Phase::Paused
    }

    pub(super) fn running(&self) -> usize {
        self.tasks().running.len()
    }

    pub(super) fn pause(&self) {
        let mut tasks = self.tasks();
        if tasks.phase == Phase::Running {
            tasks.phase = Phase::Paused;
        }
    }

    pub(super) fn resume(&self) {
        let woken = {
            let mut tasks = self.tasks();
            if tasks.phase != Phase::Paused {
                return;
            }
            tasks.phase = Phase::Running;
            std::mem::take(&mut tasks.woken)
        };
        for waker in woken.into_values() {
            waker.wake();
        }
    }

    /// Drops every task, in the order they were started. `Drop` code of a task may wake or start
    /// others: they are dead already.
    pub(super) fn kill(&self) {
        let (running, _woken) = {
            let mut tasks = self.tasks();
            tasks.phase = Phase::Dead;
            (std::mem::take(&mut tasks.running), std::mem::take(&mut tasks.woken))
        };
        for slot in running.into_values() {
            self.drop_guarded(slot.name, slot.take());
            if let Some(abort) = slot.abort.lock().unwrap_or_else(PoisonError::into_inner).take() {
                abort.abort();
            }
        }
    }

    fn drop_guarded(&self, name: &'static str, future: Option<BoxFuture<'static, ()>>) {
        if let Err(panic) = guarded(|| drop(future)) {
            self.report(name, panic);
        }
    }

    fn report(&self, task: &'static str, (message, location): (String, Option<String>)) {
        self.trace.note(self.world.nanos(), self.node.0, "panic", message.as_bytes());
        let (node, incarnation) = (self.node, self.incarnation);
        self.panics.push(NodePanic { node, incarnation, task, message, location });
    }
}

/// [`Spawn`] of one boot.
#[derive(Clone, Debug)]
pub(super) struct SimSpawn(pub(super) Arc<Boot>);

impl Spawn for SimSpawn {
    fn spawn(
        &self,
        name: &'static str,
        future: BoxFuture<'static, ()>,
    ) -> tokio::task::JoinHandle<()> {
        let boot = &self.0;
        let slot = Arc::new(Slot { name, future: Mutex::new(None), abort: Mutex::new(None) });
        let id = {
            let mut tasks = boot.tasks();
            if tasks.phase == Phase::Dead {
                drop(tasks);
                boot.drop_guarded(name, Some(future));
                return tokio::spawn(std::future::ready(()));
            }
            tasks.next += 1;
            let id = tasks.next;
            tasks.running.insert(id, slot.clone());
            id
        };
        boot.trace.note(boot.world.nanos(), boot.node.0, "spawn", name.as_bytes());
        *slot.future.lock().unwrap_or_else(PoisonError::into_inner) = Some(future);
        let join = tokio::spawn(NodeTask { boot: boot.clone(), id, slot: slot.clone() });
        *slot.abort.lock().unwrap_or_else(PoisonError::into_inner) = Some(join.abort_handle());
        join
    }
}

/// The runtime's shell around a task: it polls only while the node runs.
struct NodeTask {
    boot: Arc<Boot>,
    id: u64,
    slot: Arc<Slot>,
}

impl Future for NodeTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut tasks = self.boot.tasks();
            match tasks.phase {
                Phase::Running => {}
                Phase::Paused => {
                    tasks.woken.insert(self.id, cx.waker().clone());
                    return Poll::Pending;
                }
                Phase::Dead => return Poll::Ready(()),
            }
        }
        // Taken out for the poll: a task may kill its own node.
        let Some(mut future) = self.slot.take() else { return Poll::Ready(()) };
        match guarded(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) if self.boot.tasks().phase != Phase::Dead => {
                *self.slot.future.lock().unwrap_or_else(PoisonError::into_inner) = Some(future);
                return Poll::Pending;
            }
            Ok(_) => {}
            Err(panic) => self.boot.report(self.slot.name, panic),
        }
        self.boot.drop_guarded(self.slot.name, Some(future));
        Poll::Ready(())
    }
}

impl Drop for NodeTask {
    fn drop(&mut self) {
        {
            let mut tasks = self.boot.tasks();
            tasks.running.remove(&self.id);
            tasks.woken.remove(&self.id);
        }
        // Something is left only when the task was aborted.
        let left = self.slot.take();
        if left.is_some() {
            self.boot.drop_guarded(self.slot.name, left);
        }
    }
}

/// The panics of one host, over all its boots.
#[derive(Clone, Debug, Default)]
pub(super) struct Panics(Arc<Mutex<Vec<NodePanic>>>);

impl Panics {
    fn push(&self, panic: NodePanic) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(panic);
    }

    pub(super) fn take(&self) -> Vec<NodePanic> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

thread_local! {
    static GUARD: RefCell<Guard> = const { RefCell::new(Guard::Off) };
}

/// Whether a node's code runs on this thread.
enum Guard {
    Off,
    On,
    /// It does, and has panicked at this place.
    Panicked(String),
}

/// Runs a node's code; a panic in it is an answer, with its place, and is not printed.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, (String, Option<String>)> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let guarded = GUARD.with(|guard| {
                let mut guard = guard.borrow_mut();
                if matches!(*guard, Guard::Off) {
                    return false;
                }
                if let Some(place) = info.location() {
                    *guard = Guard::Panicked(place.to_string());
                }
                true
            });
            if !guarded {
                before(info);
            }
        }));
    });
    let outer = GUARD.with(|guard| guard.replace(Guard::On));
    let result = catch_unwind(AssertUnwindSafe(run));
    let inner = GUARD.with(|guard| guard.replace(outer));
    result.map_err(|payload| {
        let place = if let Guard::Panicked(place) = inner { Some(place) } else { None };
        (message(payload.as_ref()), place)
    })
}

fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
