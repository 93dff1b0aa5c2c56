//! Telling when a state passes its soft limit, is full, and is well again.

use std::sync::Arc;
use std::time::Duration;

use common::env::Env;
use tokio::sync::broadcast;

use super::{Fullness, Quota};
use crate::apply::Applier;
use crate::event::Event;

/// How often it is looked at while entries are applied.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Tells it, as it changes.
pub(crate) async fn warn(
    env: Env,
    configured: Quota,
    applier: Arc<dyn Applier>,
    events: broadcast::Sender<Event>,
) {
    let mut progress = applier.watch();
    let mut last = Fullness::Within;
    loop {
        progress.borrow_and_update();
        let counter = applier.counter();
        let (usage, quota) = (counter.usage, counter.quota.unwrap_or(configured));
        let fullness = quota.judge(usage);
        if fullness != last {
            if fullness > last {
                tracing::warn!(?usage, ?quota, "the state is {fullness:?} by its quota");
            }
            let _ = events.send(Event::Quota { fullness, usage, quota });
            last = fullness;
        }
        if progress.changed().await.is_err() {
            return;
        }
        env.sleep(LOOK_EVERY).await;
    }
}
