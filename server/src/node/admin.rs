//! The real node behind the HTTP pages.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use common::ids::{NodeId, Region};
use common::receipt::Receipt;
use futures::future::{BoxFuture, join_all, ready};
use futures::stream::BoxStream;
use leader::error::{AdminError, ReadError};
use leader::rollback::{AbsentKeys, Replayed, RollbackError};
use leader::state_machine::StateMachine;
use leader::watch::{Hold, HoldError};
use leader::{Attribute, ChangeOptions, Changed, ReadLevel, ReadOptions, Replacement, Role};

use crate::client::http;
use crate::config::NodeConfig;
use crate::http::{
    Admin, Change, Description, HoldReport, Lines, Pieces, WatchRefused, WatchRequest,
};
use crate::listener::Service;
use crate::metrics::{Watched, render};
use crate::node::Replica;
use crate::status::{
    CheckReport, ClusterReport, LostReport, NodeRow, RollbackReport, StatusReport,
};

/// How long a read may take for the node to count as ready.
const READY: Duration = Duration::from_secs(1);
/// How long each write of a replay may take.
const REPLAY: Duration = Duration::from_secs(5);
/// How long a peer may take to say how it is.
const PEER: Duration = Duration::from_secs(1);

/// What the pages show and change.
pub(super) struct Desk {
    pub(super) config: NodeConfig,
    pub(super) replica: Replica,
    pub(super) service: Arc<Service>,
    pub(super) watched: Arc<Watched>,
    pub(super) begun: Instant,
    /// How many watch the change feed.
    pub(super) watchers: Arc<AtomicUsize>,
}

impl Desk {
    async fn ask(&self, peer: &crate::config::Peer) -> NodeRow {
        let answer = http::get_json::<StatusReport>(&peer.http, "/status", PEER).await;
        let (status, error) = match answer {
            Ok(status) => (Some(status), None),
            Err(error) => (None, Some(error.to_string())),
        };
        NodeRow { id: peer.id, http: peer.http.clone(), status, error }
    }
}

/// Why a node cannot serve, from its role; nothing where only a read can tell.
fn hindered(role: Role, leader: Option<NodeId>, failure: Option<&str>) -> Option<String> {
    match role {
        Role::Stopped => {
            Some(format!("the node has stopped: {}", failure.unwrap_or("see its log")))
        }
        Role::Uninitialized => Some("the node belongs to no cluster yet".to_owned()),
        _ if leader.is_none() => Some("no leader is known: an election, or no majority".to_owned()),
        _ => None,
    }
}

impl Admin for Desk {
    fn report(&self) -> BoxFuture<'_, StatusReport> {
        let uptime = self.begun.elapsed().as_millis() as u64;
        Box::pin(ready(StatusReport::of(&self.config, &self.replica.status(), uptime)))
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let status = self.replica.status();
            if let Some(why) = hindered(status.role, status.leader, status.failure.as_deref()) {
                return Err(why);
            }
            // The one proof that clients can be served: a leader confirmed it, and this node has
            // everything that was committed before the question.
            let mut options = ReadOptions::level(ReadLevel::Strong);
            options.timeout = READY;
            self.replica.view(options).await.map(drop).map_err(|error| error.to_string())
        })
    }

    fn cluster(&self) -> BoxFuture<'_, ClusterReport> {
        Box::pin(async {
            let others = join_all(self.config.others().map(|peer| self.ask(peer)));
            let (own, mut nodes) = tokio::join!(self.report(), others);
            nodes.push(NodeRow {
                id: self.config.id.0,
                http: self.config.advertised.http.clone(),
                status: Some(own),
                error: None,
            });
            // Members that joined since this node's file was written.
            let own = nodes.last().and_then(|row| row.status.clone()).unwrap_or_default();
            for member in own.members {
                if nodes.iter().all(|row| row.id != member.id) {
                    let why = format!(
                        "a member at {}, but not in node {}'s list of peers",
                        member.address, self.config.id
                    );
                    nodes.push(NodeRow { id: member.id, error: Some(why), ..NodeRow::default() });
                }
            }
            nodes.sort_by_key(|row| row.id);
            ClusterReport { nodes }
        })
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(async {
            render(&self.report().await, Some(self.service.counters()), &self.watched)
        })
    }

    fn transfer(&self, to: Option<NodeId>) -> BoxFuture<'_, Result<NodeId, AdminError>> {
        Box::pin(self.replica.transfer(to))
    }

    fn backup(&self, level: ReadLevel) -> BoxFuture<'_, Result<Pieces, ReadError>> {
        Box::pin(async move {
            let backup = self.replica.backup(ReadOptions::level(level)).await?;
            Ok(Box::new(backup) as Pieces)
        })
    }

    fn check(&self, timeout: Duration) -> BoxFuture<'_, Result<CheckReport, AdminError>> {
        Box::pin(async move { self.replica.check(timeout).await.map(CheckReport::from) })
    }

    fn watch(&self, request: WatchRequest) -> Result<BoxStream<'static, String>, WatchRefused> {
        let source = (&self.replica, &self.service.users);
        Ok(Lines::open(source, &self.watchers, &request)?.stream())
    }

    fn holds(&self) -> Vec<HoldReport> {
        self.replica.holds().into_iter().map(HoldReport::from).collect()
    }

    fn hold(&self, hold: Hold) -> Result<(), HoldError> {
        self.replica.hold(hold)
    }

    fn release(&self, name: &str) -> bool {
        self.replica.release(name)
    }

    fn rollbacks(&self) -> BoxFuture<'_, Result<Vec<RollbackReport>, RollbackError>> {
        Box::pin(async {
            let files = self.replica.rollbacks().await?;
            Ok(files.into_iter().map(RollbackReport::from).collect())
        })
    }

    fn rollback(&self, name: String) -> BoxFuture<'_, Result<Vec<LostReport>, RollbackError>> {
        Box::pin(async move {
            let seal = self.replica.seal();
            let lost = self.replica.rolled_back(&name).await?;
            let lost = lost.into_iter().map(|lost| {
                let receipt = Receipt::from(lost.receipt);
                LostReport {
                    term: lost.receipt.at.term,
                    index: lost.receipt.at.index,
                    sub: lost.receipt.sub,
                    unix_millis: lost.receipt.stamp.millis(),
                    receipt: seal.as_ref().map(|(_, secret)| receipt.seal_text(secret)),
                    command: lost.command.map_or_else(
                        || "(this build cannot read it)".to_owned(),
                        |command| self.replica.machine().describe(&command),
                    ),
                }
            });
            Ok(lost.collect())
        })
    }

    fn replay(
        &self,
        name: String,
        absent: AbsentKeys,
    ) -> BoxFuture<'_, Result<Replayed, RollbackError>> {
        Box::pin(async move { self.replica.replay(&name, absent, REPLAY).await })
    }

    fn change(
        &self,
        change: Change,
        options: ChangeOptions,
    ) -> BoxFuture<'_, Result<Changed, AdminError>> {
        let plain = |()| Changed::default();
        Box::pin(async move {
            let replica = &self.replica;
            match change {
                Change::Add(member) => replica.add_learner(member).await.map(plain),
                Change::Promote(id) => replica.promote(id, options).await,
                Change::Remove(id) => replica.remove(id, options).await,
                Change::Replace(Replacement { old, new }) => {
                    replica.replace(old, new, options).await
                }
                Change::Abort {} => replica.abort_replace().await.map(plain),
                Change::Describe(said) => {
                    let id = said.id;
                    replica.describe(id, attributes(said)).await.map(plain)
                }
                Change::Relocate(member) => {
                    replica.relocate(member.id, member.address).await.map(plain)
                }
            }
        })
    }
}

fn attributes(said: Description) -> Vec<Attribute> {
    let label = |text: String| Some(text).filter(|text| !text.is_empty());
    let Description { id: _, priority, hidden, region, rack } = said;
    let all = [
        priority.map(|priority| Attribute::Priority(Some(priority))),
        hidden.map(Attribute::Hidden),
        region.map(|region| Attribute::Region(label(region).map(Region))),
        rack.map(|rack| Attribute::Rack(label(rack))),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_cluster_or_leader_says_so_before_anything_is_asked() {
        let leader = Some(NodeId(1));
        assert_eq!(hindered(Role::Follower, leader, None), None);
        assert_eq!(hindered(Role::Leader, leader, None), None);
        for (role, leader, failure, part) in [
            (Role::Uninitialized, None, None, "no cluster"),
            (Role::Follower, None, None, "no leader"),
            (Role::Stopped, leader, Some("fsync failed"), "fsync failed"),
        ] {
            let why = hindered(role, leader, failure).unwrap();
            assert!(why.contains(part), "{why}");
        }
    }
}
