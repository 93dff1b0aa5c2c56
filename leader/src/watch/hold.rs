//! Holds: names that keep the log from being purged, up to a cap.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::env::{Env, Mono};
use common::ids::LogPos;
use common::sometimes;
use common::storage::engine::EngineError;
use tokio::sync::broadcast;

use crate::event::{Broken, Event};

/// Keeps the log after a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Whose it is. There is one of each name.
    pub name: String,
    /// Everything after this entry is kept.
    pub after: LogPos,
    /// How large the log on disk may become before the hold is broken, in bytes. Over
    /// [`Config::checkpoint_bytes`](crate::Config::checkpoint_bytes), since the log becomes that large
    /// without any hold.
    pub max_bytes: u64,
    /// How long it is in force unless it is renewed.
    pub lasts: Duration,
}

/// Why nothing is held. What the name held before it still holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HoldError {
    /// The changes after the position are not all here any more.
    #[error(
        "the changes after {}.{} are not all on this node any more; nothing is held",
        after.term, after.index
    )]
    Compacted {
        /// The position.
        after: LogPos,
    },
    /// The cap is too small.
    #[error(
        "a cap of {max_bytes} bytes is not over checkpoint_bytes ({checkpoint_bytes}), which the log \
         reaches without any hold; nothing is held"
    )]
    Cap {
        /// The cap.
        max_bytes: u64,
        /// What it has to be over.
        checkpoint_bytes: u64,
    },
    /// Reading failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// There are too many.
    #[error("there are {MAX_HOLDS} holds already; release one first")]
    TooMany,
}

/// The most holds of a node.
const MAX_HOLDS: usize = 1_000;

#[derive(Debug)]
struct Held {
    hold: Hold,
    ends: Mono,
    /// Whether it has kept the last purge from going further.
    limits: bool,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<String, Held>,
    /// Entries up to here may have been purged.
    purged: u64,
}

/// The holds of a node.
#[derive(Debug)]
pub(crate) struct Holds {
    env: Env,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

impl Holds {
    /// None. What breaks is told as an event.
    pub(crate) fn new(env: &Env, events: broadcast::Sender<Event>) -> Self {
        Self { env: env.clone(), state: Mutex::default(), events }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, hold: Hold) -> Result<(), HoldError> {
        let mut state = self.state();
        if hold.after.index < state.purged {
            return Err(HoldError::Compacted { after: hold.after });
        }
        let held = &mut state.held;
        if held.len() >= MAX_HOLDS && !held.contains_key(&hold.name) {
            return Err(HoldError::TooMany);
        }
        let ends = self.env.now() + hold.lasts;
        held.insert(hold.name.clone(), Held { hold, ends, limits: false });
        Ok(())
    }

    pub(crate) fn release(&self, name: &str) -> bool {
        self.state().held.remove(name).is_some()
    }

    pub(crate) fn list(&self) -> Vec<Hold> {
        self.state().held.values().map(|held| held.hold.clone()).collect()
    }

    /// Whether a log of so many bytes is over the cap of somebody who keeps it so large.
    pub(crate) fn strain(&self, log_bytes: u64) -> bool {
        self.state().held.values().any(|held| held.limits && log_bytes > held.hold.max_bytes)
    }

    /// The last index that a purge up to `wanted` may drop of a log of so many bytes. Holds that
    /// have expired or are over their cap do not count: they end here.
    pub(crate) fn limit(&self, wanted: u64, log_bytes: u64) -> u64 {
        let now = self.env.now();
        let mut upto = wanted;
        let mut state = self.state();
        state.held.retain(|_, Held { hold, ends, limits }| {
            *limits = hold.after.index < wanted;
            if !*limits {
                return now < *ends;
            }
            let broken = if log_bytes > hold.max_bytes {
                Broken::OverCap { log_bytes }
            } else if now >= *ends {
                Broken::Expired
            } else {
                upto = upto.min(hold.after.index);
                return true;
            };
            sometimes!("hold-broken");
            tracing::warn!(name = hold.name, ?broken, "a hold on the log has ended");
            let (name, after) = (hold.name.clone(), hold.after);
            let _ = self.events.send(Event::HoldBroken { name, after, broken });
            false
        });
        state.purged = state.purged.max(upto);
        upto
    }
}
