//! One number for a whole state: equal on all members at one position of the log.
//!
//! It is a sum over all items, so the order in which they are read does not matter, and it is
//! counted over a consistent cut while the member goes on. What a member keeps about itself (the
//! keyspace `leader.meta`: position, members, cluster; and `leader.feed`, which begins where each began
//! to keep it) is left out, so that a restored state has the hash of its backup. Sessions and the history of terms are part of it.
//!
//! It finds damage and differences, not forgery: whoever can choose values can make two states of
//! one hash.

use std::fmt;
use std::time::Duration;

use common::env::Env;
use common::storage::engine::{EngineError, KeyRange, PageLimit};
use serde::{Deserialize, Serialize};

use crate::apply::Pinned;
use crate::snapshot::{Counted, keyspace};
use crate::watch::feed::FEED;

/// The most bytes that are read in one go.
const PAGE: usize = 256 << 10;

/// Number and hash of the items of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateHash {
    /// How many items it has, in all keyspaces.
    pub items: u64,
    /// The sum of their hashes.
    pub hash: u64,
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} of {} items", self.hash, self.items)
    }
}

/// Reads a pinned state through and hashes it, at most so many bytes per second, so that clients
/// hardly notice.
pub(crate) async fn hash(
    env: &Env,
    pinned: &Pinned,
    bytes_per_second: u64,
) -> Result<StateHash, EngineError> {
    let mut counted = Counted::default();
    for name in pinned.keyspaces.iter().filter(|name| **name != FEED.0) {
        let keyspace = keyspace(name)?;
        let mut range = KeyRange::all();
        loop {
            let limit = PageLimit { items: 4_096, bytes: PAGE };
            let page = pinned.state.scan(keyspace, &range, limit)?;
            let mut bytes = 0;
            for (key, value) in &page.items {
                bytes += (key.len() + value.len()) as u64;
                counted.add(keyspace, key, value);
            }
            match page.items.last() {
                Some((key, _)) if page.more => range = range.after(key.clone()),
                _ => break,
            }
            let micros = bytes.saturating_mul(1_000_000) / bytes_per_second.max(1);
            env.sleep(Duration::from_micros(micros)).await;
        }
    }
    Ok(counted.state())
}
