//! Founding the cluster once, and never twice.
//!
//! All nodes have the same list of peers, so all agree who founds: the peer with the lowest id. It
//! does so only after **every** other peer has answered that it belongs to no cluster. Asking all,
//! not a majority, is what makes a wiped folder harmless: as long as one node remembers a cluster,
//! the founder either hears of it or waits, and a second cluster under the same name cannot come to
//! be. The price is that the very first start needs all peers to be up; a peer that will never come
//! is taken off the list.
//!
//! A node whose folder is empty although the leader knows that it held entries has lost its data.
//! It must not come back under its old id: it may have voted, and would not remember. It is refused
//! before it opens anything, and joins under a new id instead. (After a restart of the leader that
//! knowledge is gone until the leader has heard from the node; this is a guard against mistakes,
//! not a proof.)

use std::collections::BTreeMap;
use std::time::Duration;

use common::ids::NodeId;
use futures::future::join_all;
use leader::Member;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::client::http;
use crate::config::NodeConfig;
use crate::status::StatusReport;

/// How long one peer may take to answer.
const QUESTION: Duration = Duration::from_secs(1);
/// How often peers are asked.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it is said whom the founder waits for.
const REMIND: Duration = Duration::from_secs(10);

/// What one peer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It did not answer, or is still opening its log.
    Nothing,
    /// It belongs to no cluster.
    Unfounded,
    /// It belongs to a cluster, and, if it leads, knows what this node held.
    Founded { cluster: String, held: Option<u64> },
}

/// What to do about founding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Found the cluster now.
    Found,
    /// Ask these again.
    WaitFor(Vec<NodeId>),
    /// There is a cluster; its leader will call, or has to be told to.
    Join { by: NodeId, cluster: String },
}

/// Decides from what all other peers said.
pub(super) fn decide(heard: &BTreeMap<NodeId, Heard>) -> Decision {
    let mut waiting = Vec::new();
    for (&peer, heard) in heard {
        match heard {
            Heard::Founded { cluster, .. } => {
                return Decision::Join { by: peer, cluster: cluster.clone() };
            }
            Heard::Nothing => waiting.push(peer),
            Heard::Unfounded => {}
        }
    }
    if waiting.is_empty() { Decision::Found } else { Decision::WaitFor(waiting) }
}

/// What a report of a peer says about founding.
fn hear(report: &StatusReport, me: NodeId) -> Heard {
    if report.members.is_empty() {
        return Heard::Unfounded;
    }
    let mine = report.members.iter().find(|member| member.id == me.0);
    let cluster = report.cluster_id.clone().unwrap_or_else(|| "of unknown id".to_owned());
    Heard::Founded { cluster, held: mine.and_then(|member| member.matched) }
}

/// Asks all other peers.
async fn ask(config: &NodeConfig) -> BTreeMap<NodeId, Heard> {
    let asked = config.others().map(|peer| async {
        let report = http::get_json::<StatusReport>(&peer.http, "/status", QUESTION).await;
        (NodeId(peer.id), report.map_or(Heard::Nothing, |report| hear(&report, config.id)))
    });
    join_all(asked).await.into_iter().collect()
}

/// What a peer knows this node to have held, although its folder is empty.
pub(super) async fn lost_entries(config: &NodeConfig) -> Option<(NodeId, u64)> {
    let heard = ask(config).await;
    heard.into_iter().find_map(|(peer, heard)| match heard {
        Heard::Founded { held: Some(index), .. } => Some((peer, index)),
        _ => None,
    })
}

/// The members that a new cluster begins with.
pub(crate) fn members(config: &NodeConfig) -> Vec<Member> {
    let member =
        |peer: &crate::config::Peer| Member { id: NodeId(peer.id), address: peer.peer.clone() };
    config.peers.iter().map(member).collect()
}

/// Returns when this node is to found the cluster, or never has to: then with `None`.
/// `founded` says whether the node belongs to a cluster by now.
pub(super) async fn turn(config: &NodeConfig, founded: impl Fn() -> bool) -> Option<Vec<Member>> {
    if founded() {
        return None;
    }
    if !config.bootstrap {
        info!("waiting to be added to a cluster: POST /members on its leader");
        return None;
    }
    let founder = config.founder();
    if config.id != founder {
        info!("waiting for node {founder} to found the cluster, or to be added to one");
        return None;
    }
    let mut reminded: Option<Instant> = None;
    loop {
        let heard = ask(config).await;
        if founded() {
            return None;
        }
        let due = reminded.is_none_or(|at| at.elapsed() >= REMIND);
        match decide(&heard) {
            Decision::Found => return Some(members(config)),
            Decision::WaitFor(peers) if due => {
                info!("the cluster is founded when all peers are up; waiting for {peers:?}");
                reminded = Some(Instant::now());
            }
            Decision::Join { by, cluster } if due => {
                warn!(
                    "node {by} belongs to cluster {cluster} already, so no second one is founded; \
                     if this node's folder was lost, remove node {} there and add this machine \
                     under a new id",
                    config.id
                );
                reminded = Some(Instant::now());
            }
            _ => {}
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::MemberReport;

    fn heard(all: &[(u64, Heard)]) -> BTreeMap<NodeId, Heard> {
        all.iter().map(|(id, heard)| (NodeId(*id), heard.clone())).collect()
    }

    #[test]
    fn a_cluster_is_founded_only_when_every_peer_belongs_to_none() {
        let founded = Heard::Founded { cluster: "c".into(), held: None };
        let cases = [
            (heard(&[]), Decision::Found),
            (heard(&[(2, Heard::Unfounded), (3, Heard::Unfounded)]), Decision::Found),
            (
                heard(&[(2, Heard::Unfounded), (3, Heard::Nothing)]),
                Decision::WaitFor(vec![NodeId(3)]),
            ),
            (
                heard(&[(2, Heard::Nothing), (3, founded)]),
                Decision::Join { by: NodeId(3), cluster: "c".into() },
            ),
        ];
        for (heard, expected) in cases {
            assert_eq!(decide(&heard), expected, "{heard:?}");
        }
    }

    #[test]
    fn a_report_tells_whether_its_node_belongs_to_a_cluster_and_what_we_held() {
        let mut report = StatusReport { id: 2, ..StatusReport::default() };
        assert_eq!(hear(&report, NodeId(1)), Heard::Unfounded);
        report.cluster_id = Some("abc".into());
        report.members = vec![MemberReport { id: 1, matched: Some(7), ..MemberReport::default() }];
        let of = |held| Heard::Founded { cluster: "abc".into(), held };
        assert_eq!(hear(&report, NodeId(1)), of(Some(7)));
        assert_eq!(hear(&report, NodeId(3)), of(None));
    }
}
