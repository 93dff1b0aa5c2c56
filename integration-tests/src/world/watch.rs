//! What the world looks at while a plan happens: panics, nodes that stop by themselves, states.

use std::sync::Arc;
use std::time::Duration;

use common::env::simulated::Life;

use super::{World, machine};
use crate::check::Verdict;
use crate::strategy::Strategy;

/// How often the world looks.
const EVERY: Duration = Duration::from_millis(250);

/// Looks until the run ends.
pub(super) async fn watch<S: Strategy>(world: Arc<World<S>>) {
    loop {
        world.sleep_until(world.now() + EVERY).await;
        look(&world);
    }
}

/// Looks once.
pub(super) fn look<S: Strategy>(world: &Arc<World<S>>) {
    let findings = world.strategy.look(&world.open_nodes());
    world.found(findings, |stats, looked| stats.samples += looked);
    for machine in &world.machines {
        for panic in machine.host.take_panics() {
            let place = panic.location.as_deref().unwrap_or("an unknown place");
            let reason = format!(
                "at {}: task `{}` panicked at {place}: {}",
                world.now(),
                panic.task,
                panic.message
            );
            world.find("refused", Verdict::Refused { node: machine.place.0, reason });
        }
        if machine.host.life() != Life::Up {
            continue;
        }
        let Some(node) = machine.node() else { continue };
        if let Some(reason) = world.strategy.failure(&node)
            && machine.close_link()
        {
            world.note(Some(machine.place), "stopped", reason.as_bytes());
            machine::refused(world, machine.place, &format!("it stopped: {reason}"));
        }
    }
}
