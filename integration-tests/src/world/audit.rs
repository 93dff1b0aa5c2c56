//! What nodes say to each other, and whether what they said is durable really is.

use std::sync::Arc;

use super::World;
use crate::check::Verdict;
use crate::strategy::Strategy;

/// Lets the strategy hear every message of the run.
pub(super) fn listen<S: Strategy>(world: &Arc<World<S>>) {
    let weak = Arc::downgrade(world);
    world.net.observe(Arc::new(move |message| {
        if let Some(world) = weak.upgrade() {
            let findings = world.strategy.overhear(message);
            world.found(findings, |_, _| {});
        }
    }));
}

/// Takes copies of what all disks hold for certain, and has them read beside the run. Nothing in
/// the run notices.
pub(super) fn audit<S: Strategy>(world: &Arc<World<S>>) {
    drop(start(world));
}

/// As [`audit`], and waits for the result.
pub(super) async fn audit_to_the_end<S: Strategy>(world: &Arc<World<S>>) {
    if let Some(task) = start(world)
        && task.await.is_err()
    {
        world.find("harness", Verdict::Harness("an audit panicked".to_owned()));
    }
}

fn start<S: Strategy>(world: &Arc<World<S>>) -> Option<tokio::task::JoinHandle<()>> {
    let images = world.machines.iter().map(|m| (m.place, m.disk.image())).collect();
    let audit = world.strategy.audit(images)?;
    let world = world.clone();
    Some(tokio::spawn(async move {
        let findings = audit.await;
        world.found(findings, |stats, looked| stats.claims += looked);
    }))
}
