//! What members do for one whose state is wrong; see [`divergence`](crate::divergence).

use std::time::Duration;

use common::ids::{LogPos, NodeId};
use common::storage::engine::Generation;
use common::transport::Class;

use super::Consensus;
use crate::apply::Applied;
use crate::divergence::Quarantined;
use crate::message::{Reply, Request};
use crate::state_hash::StateHash;

impl Consensus {
    /// The hash that another member has found its state to have at a check, if it has.
    pub(crate) async fn ask_state(
        &self,
        member: NodeId,
        at: LogPos,
        deadline: Duration,
    ) -> Option<StateHash> {
        let request = Request::State { at }.encode();
        let call = self.0.env.transport.call(member, Class::Control, request, deadline);
        match Reply::decode(&call.await.ok()?) {
            Ok(Reply::State { state }) => state,
            _ => None,
        }
    }

    /// Whether a member will send its state, which was right at the check.
    pub(crate) async fn ask_repair(
        &self,
        member: NodeId,
        why: &Quarantined,
        deadline: Duration,
    ) -> bool {
        let request = Request::Repair { at: why.at, state: why.majority }.encode();
        let call = self.0.env.transport.call(member, Class::Control, request, deadline);
        let answer = call.await.ok().and_then(|bytes| Reply::decode(&bytes).ok());
        if let Some(Reply::Rejected { reason }) = &answer {
            tracing::info!(%member, reason, "no snapshot to repair this node");
        }
        matches!(answer, Some(Reply::Repairing))
    }

    /// Sends this node's state to a member whose own is wrong, if this one's was right at the check.
    pub(super) fn help(&self, member: NodeId, at: LogPos, state: StateHash) -> Result<(), String> {
        if self.integrity().quarantined().is_some() {
            return Err("this node is in quarantine itself".to_owned());
        }
        if self.integrity().result(at) != Some(state) {
            return Err("this node does not know its own state at that check".to_owned());
        }
        self.give(member, at)
    }

    /// Sends this node's state to a member whose engine lost its own, if it goes as far as that
    /// member's log begins.
    pub(super) fn refill(&self, member: NodeId, after: LogPos) -> Result<(), String> {
        if self.integrity().quarantined().is_some() {
            return Err("this node is in quarantine itself".to_owned());
        }
        if self.applied() < Some(after) {
            return Err("this node has not applied that much itself".to_owned());
        }
        self.give(member, after)
    }

    fn give(&self, member: NodeId, at_least: LogPos) -> Result<(), String> {
        let Some(vote) = self.0.log.vote() else {
            return Err("this node has not voted yet".to_owned());
        };
        let sender = self.0.sender.clone();
        self.0.env.spawn("a state for a member", async move {
            let sent = sender.send(member, Some(at_least), vote, std::future::pending()).await;
            if let Err(error) = sent {
                tracing::warn!(%member, %error, "a member that asked for this state did not get it");
            }
        });
        Ok(())
    }

    /// How many chunks of snapshots have come since the start.
    pub(crate) fn received_chunks(&self) -> u64 {
        self.0.receiver.chunks()
    }

    /// Takes a received state for this node's own, wrong one: the core is started again over it.
    pub(super) async fn repair(&self, generation: Generation, at: Applied) -> Result<(), String> {
        let parts = &self.0;
        if self.leads().is_some() {
            return Err("this node leads; it hands over first".to_owned());
        }
        if at.at < parts.log.purged() {
            return Err("the state is older than this node's log".to_owned());
        }
        let replaced = self.restart(async {
            // The log must not be behind what the state is durable for.
            parts.log.sync().await?;
            parts.applier.install(generation, at.clone()).await?;
            parts.machine.note(at.clone());
            parts.log.reconcile(at.at).await?;
            Ok(())
        });
        replaced.await.map_err(|error| error.to_string())?;
        parts.integrity.lift().await;
        Ok(())
    }
}
