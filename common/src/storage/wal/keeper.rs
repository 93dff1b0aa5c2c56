//! The chores of a log: segments are prepared before they are needed, and removed after.
//!
//! Two spare files are held in stock. The writer takes one for any records, and the last one only
//! for records that may use the reserve: so on a full disk there is a segment left for what must
//! be logged.

use std::sync::Arc;
use std::time::Duration;

use super::segment::make_spare;
use super::state::{Shared, segment_name};
use crate::storage::disk::DiskError;

/// Spare segments, the reserve included.
pub(super) const STOCK: usize = 2;

/// How often a full disk is asked for space again, when nothing was released meanwhile.
const ASK_AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn keep(shared: Arc<Shared>) {
    loop {
        let done = match remove_released(&shared).await {
            Ok(()) => fill_stock(&shared).await,
            failed => failed,
        };
        if let Err(e) = done {
            shared.poison(&e);
        }
        let (ended, poisoned, full) = {
            let state = shared.state();
            (state.has_written(), state.poisoned.is_some(), state.full)
        };
        if ended || poisoned {
            return;
        }
        if full {
            let _ = shared.env.timeout(ASK_AGAIN, shared.chores.notified()).await;
        } else {
            shared.chores.notified().await;
        }
    }
}

/// Removes what only holds released records, oldest first and each durably, so that no crash leaves
/// a gap between segments.
async fn remove_released(shared: &Shared) -> Result<(), DiskError> {
    loop {
        let oldest = {
            let mut state = shared.state();
            let below = state.release_below;
            let released = state.segments.get(1).is_some_and(|second| second.header.first <= below);
            if !released || state.poisoned.is_some() {
                return Ok(());
            }
            state.segments.pop_front()
        };
        let Some(segment) = oldest else { return Ok(()) };
        let disk = &shared.env.disk;
        disk.remove(&shared.path(&segment_name(segment.header.number))).await?;
        disk.sync_dir(&shared.dir).await?;
    }
}

async fn fill_stock(shared: &Shared) -> Result<(), DiskError> {
    loop {
        let number = {
            let mut state = shared.state();
            if state.stock.len() >= STOCK {
                state.full = false;
                return Ok(());
            }
            if state.has_written() || state.poisoned.is_some() {
                return Ok(());
            }
            state.last_spare += 1;
            state.last_spare
        };
        match make_spare(&*shared.env.disk, &shared.dir, number, shared.config.segment_bytes).await
        {
            Ok(spare) => {
                shared.state().stock.push_back(spare);
            }
            Err(DiskError::Full { .. }) => {
                crate::sometimes!("log-full");
                shared.state().full = true;
                shared.stocked.notify_one();
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        shared.stocked.notify_one();
    }
}
