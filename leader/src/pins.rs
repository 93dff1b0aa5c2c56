//! Snapshots that are kept for a while, so that many reads see one state.
//!
//! A [`View`] is a consistent cut already, for as long as its holder has it. Here cuts are kept by name,
//! the position of the last entry that they contain: a client that comes with that position later, or
//! another client, reads the same state. What they keep from being forgotten is what was overwritten
//! since, so they are few and end by themselves: after a time, or when newer ones need their place.
//! Whoever comes too late is told which one is the oldest.
//!
//! They are of one member and end with its process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::env::{Env, Mono};
use common::ids::LogPos;
use common::sometimes;
use tokio::sync::Notify;

use crate::node::View;

/// The snapshots that a member keeps.
#[derive(Clone, Debug)]
pub(crate) struct Pins(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    env: Env,
    time: Duration,
    most: usize,
    /// In the order in which they were taken.
    kept: Mutex<VecDeque<Pin>>,
    changed: Notify,
}

#[derive(Debug)]
struct Pin {
    at: LogPos,
    view: View,
    /// Who keeps it, and has not released it.
    users: usize,
    until: Mono,
}

impl Pins {
    /// Keeps nothing yet: at most so many for so long.
    pub(crate) fn start(env: &Env, time: Duration, most: usize) -> Self {
        let (kept, changed) = (Mutex::default(), Notify::new());
        let pins = Self(Arc::new(Parts { env: env.clone(), time, most, kept, changed }));
        env.spawn("kept snapshots", pins.clone().expire());
        pins
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Pin>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a view, for one more user. The one that was taken first goes if there are too many.
    pub(crate) fn keep(&self, view: &View) {
        let mut kept = self.kept();
        let at = view.applied();
        if let Some(pin) = kept.iter_mut().find(|pin| pin.at == at) {
            pin.users += 1;
            return;
        }
        let until = self.0.env.now() + self.0.time;
        kept.push_back(Pin { at, view: view.clone(), users: 1, until });
        if kept.len() > self.0.most {
            sometimes!("snapshot-displaced");
            kept.pop_front();
        }
        self.0.changed.notify_one();
    }

    /// The state at a position, if it is kept.
    pub(crate) fn at(&self, at: LogPos) -> Option<View> {
        let now = self.0.env.now();
        let kept = self.kept();
        let pin = kept.iter().find(|pin| pin.at == at && pin.until > now)?;
        Some(pin.view.clone())
    }

    /// One user needs it no more; whether it was kept.
    pub(crate) fn release(&self, at: LogPos) -> bool {
        let mut kept = self.kept();
        let Some(place) = kept.iter().position(|pin| pin.at == at) else { return false };
        kept[place].users -= 1;
        if kept[place].users == 0 {
            kept.remove(place);
        }
        true
    }

    /// The oldest position that is kept.
    pub(crate) fn oldest(&self) -> Option<LogPos> {
        let now = self.0.env.now();
        self.kept().iter().filter(|pin| pin.until > now).map(|pin| pin.at).min()
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.kept().len()
    }

    /// Lets those go whose time is over.
    async fn expire(self) {
        let Parts { env, changed, .. } = &*self.0;
        loop {
            let next = self.kept().front().map(|pin| pin.until);
            match next {
                None => changed.notified().await,
                Some(next) => {
                    env.clock.sleep_until(next).await;
                    let now = env.now();
                    self.kept().retain(|pin| pin.until > now);
                }
            }
        }
    }
}
