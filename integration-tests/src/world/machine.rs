//! One machine of the world: its disk outlives the node on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::env::simulated::{Life, SimHost, SimWorldClock, Trace};
use common::env::{Env, SplitMix64};
use tokio::sync::mpsc;

use super::World;
use super::clients::Ask;
use super::fabric::{Net, Platter};
use crate::check::Verdict;
use crate::plan::ClusterConfig;
use crate::strategy::{Place, Strategy};
use crate::time::SimTime;

/// How long the world waits before it starts a node again that stopped or refused to start.
const START_AGAIN: Duration = Duration::from_millis(500);

/// How long after a start an earlier fault may still show.
const EXCUSED: Duration = Duration::from_secs(1);

/// A machine, and the node on it when one runs.
pub(crate) struct Machine<S: Strategy> {
    pub(crate) place: Place,
    pub(crate) host: SimHost,
    pub(crate) disk: Platter,
    state: Mutex<State<S>>,
}

struct State<S: Strategy> {
    /// What keeps the node from being started: nothing, or active faults.
    wanted: bool,
    env: Option<Env>,
    node: Option<S::Node>,
    link: Option<mpsc::UnboundedSender<Ask>>,
    /// A fault that justifies a stop or a refused start, until a while after the next successful
    /// one: a failing sync may be one that nobody waits for.
    excuse: Option<&'static str>,
    excuse_ends: Option<SimTime>,
    /// The same of a fault that is active now.
    standing_excuse: Option<&'static str>,
}

/// How a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The process only: the page cache stays.
    Process,
    /// The machine: what was not synced is lost, kept or torn.
    Power,
}

impl<S: Strategy> Machine<S> {
    pub(super) fn new(
        place: Place,
        clock: &SimWorldClock,
        rng: &SplitMix64,
        trace: &Trace,
        config: &ClusterConfig,
    ) -> Self {
        let host = SimHost::new(place.id(), clock, rng, trace.clone());
        let disk = Platter::new(place, clock, rng, trace, config);
        let state = State {
            wanted: true,
            env: None,
            node: None,
            link: None,
            excuse: None,
            excuse_ends: None,
            standing_excuse: None,
        };
        Self { place, host, disk, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node, once it is open.
    pub(crate) fn node(&self) -> Option<S::Node> {
        self.state().node.clone()
    }

    /// Where clients' questions go, once the node is open.
    pub(super) fn link(&self) -> Option<mpsc::UnboundedSender<Ask>> {
        self.state().link.clone()
    }

    /// The node with its environment, once it is open.
    pub(super) fn running(&self) -> Option<(Env, S::Node)> {
        let state = self.state();
        Some((state.env.clone()?, state.node.clone()?))
    }

    /// Takes clients' questions no more; whether it did until now.
    pub(super) fn close_link(&self) -> bool {
        self.state().link.take().is_some()
    }

    pub(super) fn want(&self, wanted: bool) {
        self.state().wanted = wanted;
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.state().wanted
    }

    /// While `reason` is there, a stop or a refused start has it as its reason.
    pub(super) fn excuse_for_now(&self, reason: Option<&'static str>) {
        let mut state = self.state();
        // What it did to the node may show a moment after it ended.
        if state.standing_excuse.is_some() && reason.is_none() {
            state.excuse = state.standing_excuse;
            state.excuse_ends = None;
        }
        state.standing_excuse = reason;
    }

    pub(super) fn excused(&self, now: SimTime) -> Option<&'static str> {
        let state = self.state();
        let excuse = state.excuse.filter(|_| state.excuse_ends.is_none_or(|end| now < end));
        let sync_failed = self.disk.sync_has_failed(self.host.incarnation());
        excuse.or(state.standing_excuse).or(sync_failed.then_some("a sync of its disk failed"))
    }

    /// Kills the node. Network and disk are dead before its tasks are dropped, so that nothing that
    /// `Drop` code does is seen.
    pub(super) fn kill(&self, strategy: &S, net: &Net, death: Death) {
        match death {
            Death::Process => {
                net.detach(self.place);
                self.disk.crash();
            }
            Death::Power => {
                net.vanish(self.place);
                self.disk.power_loss();
            }
        }
        self.host.kill();
        strategy.died(self.place);
        let (env, node) = {
            let mut state = self.state();
            state.link = None;
            (state.env.take(), state.node.take())
        };
        // The world's own handle is dropped as the node's: in its scope.
        if let (Some(env), Some(node)) = (env, node) {
            drop(env.scope(async move {
                let _node = node;
            }));
        }
    }
}

/// Starts the node of a machine that is down.
pub(super) fn boot<S: Strategy>(world: &Arc<World<S>>, place: Place) {
    let machine = world.machine(place);
    if machine.host.life() != Life::Down {
        return;
    }
    world.count(|stats| stats.boots += 1);
    let env = machine.host.boot(|incarnation| {
        (world.net.attach(place, incarnation), machine.disk.mount(incarnation))
    });
    machine.state().env = Some(env.clone());
    let (w, e) = (world.clone(), env.clone());
    drop(env.spawn("main", main(w, place, e)));
}

/// The node's own main function: open, then serve clients until the end.
async fn main<S: Strategy>(world: Arc<World<S>>, place: Place, env: Env) {
    let machine = world.machine(place);
    let opened = world.strategy.open(env.clone(), &world.plan.config, place).await;
    let node = match opened {
        Ok(node) => node,
        Err(reason) => {
            world.note(Some(place), "refused", reason.as_bytes());
            refused(&world, place, &format!("it refused to start: {reason}"));
            return;
        }
    };
    let (link, mut asks) = mpsc::unbounded_channel::<Ask>();
    {
        let mut state = machine.state();
        state.excuse_ends = state.excuse_ends.or(Some(world.now() + EXCUSED));
        state.node = Some(node.clone());
        state.link = Some(link);
    }
    world.note(Some(place), "open", &[]);
    while let Some(ask) = asks.recv().await {
        // The node gives up first, as it does for clients that wait to hear what became of it.
        let timeout = ask.deadline.since(world.now()).mul_f64(0.9);
        let (strategy, node) = (world.strategy.clone(), node.clone());
        drop(env.spawn("client", async move {
            let reply = strategy.perform(&node, ask.class, ask.action, ask.session, timeout).await;
            let _ = ask.reply.send(reply);
        }));
    }
}

/// A node has stopped or refused to start: a verdict, unless a fault is the reason. It is started
/// again after a while, as a supervisor of processes does.
pub(super) fn refused<S: Strategy>(world: &Arc<World<S>>, place: Place, reason: &str) {
    let machine = world.machine(place);
    super::audit::audit(world);
    if machine.excused(world.now()).is_none() {
        let verdict =
            Verdict::Refused { node: place.0, reason: format!("at {}: {reason}", world.now()) };
        world.find("refused", verdict);
    }
    let (w, incarnation) = (world.clone(), machine.host.incarnation());
    drop(tokio::spawn(async move {
        let machine = w.machine(place);
        loop {
            w.sleep_until(w.now() + START_AGAIN).await;
            if machine.host.incarnation() != incarnation {
                return;
            }
            match machine.host.life() {
                Life::Up => break,
                // Its supervisor is paused with it.
                Life::Paused => {}
                Life::Down => return,
            }
        }
        machine.kill(&w.strategy, &w.net, Death::Process);
        if machine.is_wanted() {
            boot(&w, place);
        }
    }));
}
