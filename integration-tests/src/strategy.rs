//! The seam between the judge and what it judges: one adapter per strategy, and what it promises.

pub mod leader;
pub mod model;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use common::env::Env;
use common::ids::NodeId;
use common::storage::disk::simulated::SimDisk;
use common::transport::simulated::Envelope;
use futures::future::BoxFuture;

use crate::history::Reply;
use crate::plan::ClusterConfig;
use crate::workload::{Action, Class, Key};

/// A node of a plan: its number there, from 0, and its id in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u8);

impl Place {
    /// The id: ids count from 1.
    pub const fn id(self) -> NodeId {
        NodeId(self.0 as u64 + 1)
    }

    /// The place of an id.
    pub const fn of(id: NodeId) -> Self {
        Self(id.0.saturating_sub(1) as u8)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// What an operator may ask of a node while a plan runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore {
    /// Hand the authority over to another node.
    Transfer,
    /// Write a snapshot and drop the log before it.
    Snapshot,
}

/// Something that must never be, found by looking inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which judge found it.
    pub judge: &'static str,
    /// What it found.
    pub claim: String,
}

/// What looking inside came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Claims or states that were looked at.
    pub looked: u64,
    /// What must never be.
    pub broken: Vec<Broken>,
}

/// The change feed of a node, as far as it says that it is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Feed {
    /// The first index that it tells of.
    pub from: u64,
    /// The first one that it does not tell of yet.
    pub end: u64,
    /// What each entry changed; nothing where it changed nothing.
    pub changes: BTreeMap<u64, String>,
}

/// One replication strategy under test. The value is shared by all nodes of one run and may keep
/// what a judge wants to know of all of them.
pub trait Strategy: Send + Sync + 'static {
    /// An open node. The world keeps a clone to look at; it is dropped in the node's scope.
    type Node: Clone + Send + Sync + 'static;

    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// Opens a node in its environment, as a process start does. The first opening of a run makes
    /// the cluster. An error is a refusal to start.
    fn open(
        &self,
        env: Env,
        config: &ClusterConfig,
        place: Place,
    ) -> BoxFuture<'static, Result<Self::Node, String>>;

    /// Carries out a client's operation on a node that it is connected to. A class that the
    /// strategy does not offer is answered as not applied, never replaced. `session` is the token
    /// of the client's session, none at its beginning.
    fn perform(
        &self,
        node: &Self::Node,
        class: Class,
        action: Action,
        session: Option<String>,
        timeout: Duration,
    ) -> BoxFuture<'static, Reply>;

    /// Who decides about a key, as far as the running nodes know.
    fn authority(&self, nodes: &BTreeMap<Place, Self::Node>, key: Key) -> Option<Place>;

    /// Why a node has stopped by itself, if it has.
    fn failure(&self, node: &Self::Node) -> Option<String> {
        let _ = node;
        None
    }

    /// Hears every message at the moment in which it leaves.
    fn overhear(&self, message: &Envelope) -> Findings {
        let _ = message;
        Findings::default()
    }

    /// Looks at the nodes that run.
    fn look(&self, nodes: &BTreeMap<Place, Self::Node>) -> Findings {
        let _ = nodes;
        Findings::default()
    }

    /// A node's process is gone, with what it only had in memory.
    fn died(&self, place: Place) {
        let _ = place;
    }

    /// Whether what nodes have said is durable really is, in copies of what their disks keep for
    /// certain. They may be written to.
    fn audit(&self, images: BTreeMap<Place, SimDisk>) -> Option<BoxFuture<'static, Findings>> {
        let _ = images;
        None
    }

    /// What a node says became of writes, by their receipts: whether each is committed or lost, or
    /// nothing while that is open.
    fn resolve(
        &self,
        node: &Self::Node,
        receipts: Vec<String>,
    ) -> BoxFuture<'static, Vec<Option<bool>>> {
        let _ = node;
        Box::pin(async move { vec![None; receipts.len()] })
    }

    /// The receipts of all writes that a node has kept as lost, in its rollback files.
    fn rolled_back(&self, node: &Self::Node) -> BoxFuture<'static, Vec<String>> {
        let _ = node;
        Box::pin(async { Vec::new() })
    }

    /// What a node tells of changes, if it does.
    fn feed(&self, node: &Self::Node) -> Option<Feed> {
        let _ = node;
        None
    }

    /// Does a chore; whether it succeeds is of no interest.
    fn chore(&self, node: &Self::Node, chore: Chore) -> BoxFuture<'static, ()> {
        let _ = (node, chore);
        Box::pin(async {})
    }
}
