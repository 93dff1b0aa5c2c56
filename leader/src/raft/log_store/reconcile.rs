//! When the state machine and the log disagree after a crash.
//!
//! An entry may be committed elsewhere and applied here before this node's own log holds it
//! durably. After a crash the state may then be ahead of the log's end, or contradict a stale tail
//! that the lost records would have replaced. openraft refuses to start on either, so the log gives
//! way: what the state contains was committed.

use common::ids::LogPos;

use super::LogStore;
use crate::error::OpenError;

/// What was found, and done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reconciled {
    /// The log contains the state's position, or nothing was ever applied: the rest is replayed.
    Agree,
    /// The log ended before the state's position, or contradicted it. Its entries are dropped, and
    /// it goes on behind the state.
    LogCut {
        /// The last entry the log had.
        had: Option<LogPos>,
    },
}

impl LogStore {
    /// Whether the log will give way to a state that has applied up to `applied`. The state must be
    /// made durable before it does.
    pub(crate) fn gives_way_to(&self, applied: Option<LogPos>) -> bool {
        let state = self.state();
        applied.is_some_and(|at| {
            let found = state.index.find(at.index).map(|(at, _)| at);
            found != applied && state.purged < applied
        })
    }

    /// Makes the log agree with a state that has applied up to `applied`. Call it before openraft
    /// starts, with a state that is durable itself: the log drops what that state contains.
    ///
    /// # Errors
    ///
    /// [`OpenError::Inconsistent`] when the state is older than the oldest entry of the log: it has
    /// lost what was durable, and the log alone cannot bring it up to date. Nothing is changed then.
    pub(crate) async fn reconcile(&self, applied: Option<LogPos>) -> Result<Reconciled, OpenError> {
        let (had, purged, found) = {
            let state = self.state();
            let found = applied.and_then(|at| state.index.find(at.index)).map(|(at, _)| at);
            (state.last(), state.purged, found)
        };
        if let Some(purged) = purged
            && applied < Some(purged)
        {
            return Err(OpenError::Inconsistent(format!(
                "the state has applied up to {applied:?}, but the log only goes back to {purged:?}: \
                 the state lost what was durable; remove the engine's folder and take a snapshot \
                 from a member, or replace this node"
            )));
        }
        let Some(at) = applied else { return Ok(Reconciled::Agree) };
        if found == applied || purged == applied {
            return Ok(Reconciled::Agree);
        }
        common::sometimes!("log-cut-to-the-state");
        self.truncate(purged)?;
        self.purge_upto(at)?;
        self.sync().await?;
        self.0.acks.synced(at, self.0.acks.cuts());
        Ok(Reconciled::LogCut { had })
    }
}
