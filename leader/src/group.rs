//! A member without its machine: the agreement, the way in for writes, and the proof behind reads.
//!
//! Nothing here names the machine's type, and every future is boxed where it is made, so that all of
//! it, openraft included, is compiled once with this crate and not again with each machine.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::consistency::ReplicationMode;
use common::env::Env;
use common::ids::{Epoch, LogPos, NodeId};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{broadcast, mpsc, watch};

use crate::acknowledge::{Acknowledger, Told};
use crate::apply::Applier;
use crate::config::Config;
use crate::divergence::{self, Checked};
use crate::duties;
use crate::election;
use crate::error::{AdminError, OpenError};
use crate::event::{self, Event};
use crate::failover;
use crate::identity::Identity;
use crate::lag::{Freshness, Pace};
use crate::membership::roster::Attribute;
use crate::membership::{ChangeOptions, Changed, Membership};
use crate::message::Proof;
use crate::nearest::Nearest;
use crate::node::Member;
use crate::peer::{Due, Peer};
use crate::pins::Pins;
use crate::propose::Proposer;
use crate::quota::{self, OverQuota, Quota};
use crate::raft::Consensus;
use crate::read::Groups;
use crate::read_elsewhere::Answers;
use crate::rollback;
use crate::watch::hold::Holds;
use crate::watch::{Filter, Hold, HoldError, Watch, WatchError, WatchFrom};
use crate::write::Writer;

/// How long a checkpoint that was asked for may take.
const CHECKPOINT: Duration = Duration::from_secs(60);

/// One member's part in its group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) env: Env,
    pub(crate) config: Config,
    pub(crate) consensus: Consensus,
    pub(crate) writer: Writer,
    /// Reads that are proven by a round to a majority.
    pub(crate) strong: Groups,
    /// Reads that are proven by the leader's lease.
    pub(crate) lease: Groups,
    /// How old this member's state may be.
    pub(crate) freshness: Freshness,
    /// The cluster's history that this member is in.
    pub(crate) epoch: Epoch,
    /// What keeps the log.
    pub(crate) holds: Arc<Holds>,
    /// How near the others are.
    pub(crate) nearest: Nearest,
    /// How fast entries are applied here.
    pub(crate) pace: Pace,
    /// Snapshots that are kept.
    pub(crate) pins: Pins,
    /// Becomes true when the node is about to stop.
    stopping: watch::Sender<bool>,
    /// Where events go.
    pub(crate) events: broadcast::Sender<Event>,
    peer: Peer,
    membership: Membership,
    applier: Arc<dyn Applier>,
}

type Done<'a, T = ()> = BoxFuture<'a, Result<T, AdminError>>;

impl Group {
    /// Opens the log over a replica's state, serves the peers, and takes part.
    pub(crate) fn open(
        env: Env,
        config: Config,
        identity: Identity,
        applier: Arc<dyn Applier>,
        due: Arc<dyn Due>,
    ) -> BoxFuture<'static, Result<Self, OpenError>> {
        async move {
            let consensus = Consensus::open(&env, &config, applier.clone()).await?;
            let limit = config.max_uncommitted_bytes;
            let acknowledger = Acknowledger::start(&env, consensus.clone());
            let proposer = Proposer::start(
                &env,
                consensus.clone(),
                acknowledger.clone(),
                applier.clone(),
                limit,
                config.quota,
            );
            let (early, acknowledged) = mpsc::unbounded_channel();
            let peer = Peer::new(
                &env,
                consensus.clone(),
                (proposer.clone(), acknowledger),
                applier.clone(),
                due,
                early,
            );
            consensus.serve(Arc::new(peer.clone()));
            let to_leader = Arc::new(peer.clone());
            let writer = Writer::start(&env, &config, to_leader.clone(), acknowledged);
            let strong = Groups::start(&env, Proof::Round, to_leader.clone());
            let lease = Groups::start(&env, Proof::Lease, to_leader);
            env.spawn(
                "election agent",
                election::run(env.clone(), consensus.clone(), config.clone()),
            );
            let freshness = Freshness::start(&env, &config, lease.clone(), applier.clone());
            env.spawn(
                "lead",
                duties::lead(
                    env.clone(),
                    consensus.clone(),
                    proposer.clone(),
                    applier.clone(),
                    peer.clone(),
                ),
            );
            let nearest = Nearest::start(&env, &consensus);
            let pins = Pins::start(&env, config.snapshot_retention, config.max_snapshots);
            let epoch = identity.epoch;
            let events = broadcast::Sender::new(event::KEPT);
            let holds = Arc::new(Holds::new(&env, events.clone()));
            env.spawn(
                "checkpoints",
                duties::checkpoint(
                    env.clone(),
                    consensus.clone(),
                    config.clone(),
                    applier.clone(),
                    holds.clone(),
                ),
            );
            env.spawn(
                "rollbacks",
                rollback::keep(
                    env.clone(),
                    consensus.clone(),
                    applier.clone(),
                    epoch,
                    events.clone(),
                ),
            );
            let membership =
                Membership::new(&env, consensus.clone(), proposer.clone(), applier.clone());
            env.spawn("unfinished changes of members", membership.clone().finish());
            let integrity = consensus.integrity().clone();
            env.spawn(
                "checks",
                divergence::propose(
                    env.clone(),
                    consensus.clone(),
                    config.clone(),
                    proposer,
                    applier.clone(),
                ),
            );
            env.spawn(
                "hashes of the state",
                divergence::hash_cuts(
                    env.clone(),
                    config.clone(),
                    applier.clone(),
                    integrity.clone(),
                ),
            );
            env.spawn(
                "comparison of states",
                divergence::compare(
                    env.clone(),
                    consensus.clone(),
                    integrity.clone(),
                    events.clone(),
                ),
            );
            env.spawn(
                "repair of the state",
                divergence::repair(env.clone(), consensus.clone(), integrity, events.clone()),
            );
            env.spawn(
                "quota",
                quota::warn(env.clone(), config.quota, applier.clone(), events.clone()),
            );
            env.spawn("events", duties::tell(consensus.clone(), events.clone()));
            if identity.cluster.is_none() || applier.applied().cluster.is_none() {
                let name = duties::name_cluster(env.clone(), identity, applier.clone());
                env.spawn("name the cluster", name);
            }
            Ok(Self {
                env,
                config,
                consensus,
                writer,
                strong,
                lease,
                freshness,
                epoch,
                holds,
                nearest,
                pace: Pace::default(),
                pins,
                stopping: watch::Sender::new(false),
                events,
                peer,
                membership,
                applier,
            })
        }
        .boxed()
    }

    /// Makes this member's empty log the first of a new cluster.
    pub(crate) fn initialize(&self, members: Vec<Member>) -> Done<'_> {
        let initialize = async move { self.consensus.initialize(&members).await };
        self.env.scope(initialize).boxed()
    }

    /// Waits until those that a mode names have reached a committed entry.
    pub(crate) fn reach<'a>(
        &'a self,
        at: LogPos,
        mode: &'a ReplicationMode,
        timeout: Duration,
    ) -> BoxFuture<'a, Option<Told>> {
        self.env.scope(self.peer.reach(at, mode, timeout)).boxed()
    }

    /// Hands the leadership over.
    pub(crate) fn transfer(&self, to: Option<NodeId>) -> Done<'_, NodeId> {
        self.env.scope(failover::transfer(&self.env, &self.consensus, to)).boxed()
    }

    /// Adds a member without a vote.
    pub(crate) fn add_learner(&self, member: Member) -> Done<'_> {
        self.env.scope(self.membership.add_learner(member)).boxed()
    }

    /// Gives a learner a vote.
    pub(crate) fn promote(&self, id: NodeId, options: ChangeOptions) -> Done<'_, Changed> {
        let promote = async move { self.membership.promote(id, &options).await };
        self.env.scope(promote).boxed()
    }

    /// Removes a member.
    pub(crate) fn remove(&self, id: NodeId, options: ChangeOptions) -> Done<'_, Changed> {
        let remove = async move { self.membership.remove(id, &options).await };
        self.env.scope(remove).boxed()
    }

    /// Replaces a voter.
    pub(crate) fn replace(
        &self,
        old: NodeId,
        new: Member,
        options: ChangeOptions,
    ) -> Done<'_, Changed> {
        let replace = async move { self.membership.replace(old, new, &options).await };
        self.env.scope(replace).boxed()
    }

    /// Takes a replacement back.
    pub(crate) fn abort_replace(&self) -> Done<'_> {
        self.env.scope(self.membership.abort_replace()).boxed()
    }

    /// Sets attributes of a member.
    pub(crate) fn describe(&self, id: NodeId, attributes: Vec<Attribute>) -> Done<'_> {
        self.env.scope(self.membership.describe(id, attributes)).boxed()
    }

    /// Changes a member's address.
    pub(crate) fn relocate(&self, id: NodeId, address: String) -> Done<'_> {
        self.env.scope(self.membership.relocate(id, address)).boxed()
    }

    /// Has all members compare their states at one position.
    pub(crate) fn check(&self, timeout: Duration) -> Done<'_, Checked> {
        let check = async move {
            let deadline = self.env.now() + timeout;
            let timed_out = AdminError::TimedOut(timeout);
            let at = self.peer.check(deadline).await.ok_or_else(|| timed_out.clone())?;
            let integrity = self.consensus.integrity();
            let checked = divergence::collect(&self.env, &self.consensus, integrity, at, deadline);
            checked.await.ok_or(timed_out)
        };
        self.env.scope(check).boxed()
    }

    /// From now on reads of other members are answered.
    pub(crate) fn answer_reads(&self, answers: Arc<dyn Answers>) {
        self.peer.answer_reads(answers);
    }

    /// The index of the last entry that is applied here, 0 before the first.
    pub(crate) fn applied_index(&self) -> u64 {
        self.applier.applied().index()
    }

    /// Sets how large the state may become.
    pub(crate) fn set_quota(&self, quota: Quota, timeout: Duration) -> Done<'_> {
        let set = async move {
            quota.validate().map_err(AdminError::Refused)?;
            let deadline = self.env.now() + timeout;
            let set = self.peer.set_quota(quota, deadline).await;
            set.then_some(()).ok_or(AdminError::TimedOut(timeout))
        };
        self.env.scope(set).boxed()
    }

    /// How large the state may become, and how many commands this node has refused for that.
    pub(crate) fn quota(&self) -> (Quota, u64) {
        self.peer.proposer().quota()
    }

    /// Why a command is refused now, where this node leads.
    pub(crate) fn over_quota(&self, command: &Bytes) -> Option<OverQuota> {
        self.peer.proposer().over_quota(command)
    }

    /// Checkpoints the state and lets the log before it go.
    pub(crate) fn checkpoint(&self) -> Done<'_, LogPos> {
        let keep = self.config.keep_entries;
        self.env.scope(self.consensus.checkpoint(keep, &self.holds, CHECKPOINT)).boxed()
    }

    /// Watches what is changed.
    pub(crate) fn watch(&self, from: WatchFrom, filter: Filter) -> Result<Watch, WatchError> {
        if !self.config.change_feed {
            return Err(WatchError::Off);
        }
        let sources = (&self.env, &self.consensus, self.applier.clone());
        Ok(Watch::new(sources, self.stopping.subscribe(), from, filter))
    }

    /// Keeps the log after a position.
    pub(crate) fn hold(&self, hold: Hold) -> Result<(), HoldError> {
        let (after, checkpoint_bytes) = (hold.after, self.config.checkpoint_bytes);
        if hold.max_bytes <= checkpoint_bytes {
            return Err(HoldError::Cap { max_bytes: hold.max_bytes, checkpoint_bytes });
        }
        let purged = self.consensus.purged().max(self.applier.feed()?.floor);
        if purged.is_some_and(|purged| purged.index > after.index) {
            return Err(HoldError::Compacted { after });
        }
        self.holds.set(hold)
    }

    /// Hands over if this member leads, then stops and leaves everything on disk.
    pub(crate) fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.stopping.send_replace(true);
        let stop = async move {
            let consensus = &self.consensus;
            if consensus.leads().is_some() && !consensus.other_voters().is_empty() {
                let handed = failover::transfer(&self.env, consensus, None).await;
                if let Err(error) = handed {
                    tracing::info!(%error, "stopping without handing over");
                }
            }
            self.writer.close().await;
            // The log first: a state must never be durable before its log is.
            consensus.shutdown().await;
            if let Err(error) = self.applier.checkpoint().await {
                tracing::warn!(%error, "the last checkpoint failed; the log has everything");
            }
        };
        self.env.scope(stop).boxed()
    }
}
