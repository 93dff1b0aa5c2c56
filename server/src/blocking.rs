//! Who waits for elements of which keys: in this node, in the order of arrival, never in the log.
//!
//! A pop that waits asks its keys once, as an ordinary write. If they are empty it takes its place in
//! the queue of each, and does nothing until this node has applied a change of one of them, whichever
//! node the change came through. Then the first in that key's queue tries again, and the next one after
//! it has got something or left. So of those who wait on one node, the first to wait is served first;
//! between nodes it is the order of the log that decides.
//!
//! One task per node hears the change feed while somebody waits. Where there is none it looks often.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use leader::watch::{Change, WatchFrom, Watched};
use tokio::sync::Notify;

use crate::backend::Feed;
use crate::service::Service;

/// How often keys are looked at where no changes are told.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// All who wait on this node.
#[derive(Debug, Default)]
pub(crate) struct Blocked(Mutex<Queues>);

#[derive(Debug, Default)]
struct Queues {
    last: u64,
    /// The numbers of those who wait, by key, the first one first.
    keys: BTreeMap<Bytes, VecDeque<u64>>,
    waiting: BTreeMap<u64, Arc<Notify>>,
    /// Whether somebody hears the changes.
    heard: bool,
}

/// A place in the queues of some keys. It is given up with this value.
#[derive(Debug)]
pub(crate) struct Place {
    service: Arc<Service>,
    number: u64,
    keys: Vec<Bytes>,
    woken: Arc<Notify>,
}

impl Blocked {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.queues().waiting.len()
    }

    fn wake(&self, key: &[u8]) {
        self.queues().wake(key);
    }

    fn wake_all(&self) {
        let queues = self.queues();
        for key in queues.keys.keys() {
            queues.wake(key);
        }
    }

    /// Whether nobody waits any more: then nobody has to hear.
    fn rests(&self) -> bool {
        let mut queues = self.queues();
        queues.heard = !queues.waiting.is_empty();
        !queues.heard
    }
}

impl Queues {
    fn wake(&self, key: &[u8]) {
        let first = self.keys.get(key).and_then(VecDeque::front);
        if let Some(woken) = first.and_then(|number| self.waiting.get(number)) {
            woken.notify_one();
        }
    }
}

impl Place {
    /// Takes a place behind those who wait already. Changes are heard from here on.
    pub(crate) fn take(service: &Arc<Service>, keys: &[Bytes]) -> Self {
        let woken = Arc::new(Notify::new());
        let (number, hear) = {
            let mut queues = service.blocked.queues();
            queues.last += 1;
            let number = queues.last;
            for key in keys {
                let queue = queues.keys.entry(key.clone()).or_default();
                // A key that is named twice has one place.
                if queue.back() != Some(&number) {
                    queue.push_back(number);
                }
            }
            queues.waiting.insert(number, Arc::clone(&woken));
            (number, !std::mem::replace(&mut queues.heard, true))
        };
        if hear {
            let feed = service.backend.watch(WatchFrom::Now, Bytes::new()).ok();
            tokio::spawn(hear_changes(Arc::clone(service), feed));
        }
        Self { service: Arc::clone(service), number, keys: keys.to_vec(), woken }
    }

    /// The keys in whose queues it is the first, in the order in which they were named.
    pub(crate) fn first_of(&self) -> Vec<Bytes> {
        let queues = self.service.blocked.queues();
        let first =
            |key: &&Bytes| queues.keys.get(*key).and_then(VecDeque::front) == Some(&self.number);
        self.keys.iter().filter(first).cloned().collect()
    }

    /// Completes when a key in whose queue it is the first may have something.
    pub(crate) async fn woken(&self) {
        self.woken.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.service.blocked.queues();
        queues.waiting.remove(&self.number);
        for key in &self.keys {
            let Some(queue) = queues.keys.get_mut(key) else { continue };
            queue.retain(|number| *number != self.number);
            if queue.is_empty() {
                queues.keys.remove(key);
            } else {
                // There may be more than this one took.
                queues.wake(key);
            }
        }
    }
}

/// Wakes those who wait for what has changed, until nobody waits.
async fn hear_changes(service: Arc<Service>, mut feed: Option<Box<dyn Feed>>) {
    while !service.blocked.rests() {
        let Some(changes) = &mut feed else {
            tokio::time::sleep(LOOK_EVERY).await;
            service.blocked.wake_all();
            continue;
        };
        match changes.next().await {
            Ok(Watched::Changes(entry)) => {
                for (_, change) in &entry.list {
                    if let Change::Put { key, .. } | Change::Changed { key } = change {
                        service.blocked.wake(key);
                    }
                }
            }
            Ok(_) => {}
            Err(_) => {
                // What was missed may have been for anybody.
                feed = service.backend.watch(WatchFrom::Now, Bytes::new()).ok();
                tokio::time::sleep(LOOK_EVERY).await;
                service.blocked.wake_all();
            }
        }
    }
}
