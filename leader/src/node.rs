//! One member of a replicated group: open, use, shut down.

mod values;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::clock::Hlc;
use common::codec;
use common::consistency::{Consistency, TradeOff};
use common::env::{Env, Mono};
use common::ids::{ClusterId, Epoch, GroupId, LogPos, NodeId};
use common::receipt::{Fate, LogReceipt, Receipt};
use common::seal::ClusterSecret;
use common::storage::disk::Disk;
use common::storage::engine::{EngineError, Engines};
use common::token::LogToken;
use common::{mutate, sometimes};
use tokio::sync::broadcast;

use crate::apply::{Applier, Pinned, Replica};
use crate::config::Config;
use crate::divergence::Checked;
use crate::error::{AdminError, OpenError, ReadError, ResolveError, WriteError};
use crate::event::Event;
use crate::explain::explain;
use crate::group::Group;
use crate::identity::Identity;
use crate::membership::roster::Attribute;
use crate::membership::{ChangeOptions, Changed};
use crate::peer::Due;
use crate::quota::{self, Quota, Usage};
use crate::read::{ReadIndex, wait_applied};
use crate::read_elsewhere::Answering;
use crate::replication_mode::{AckReport, ReplicationMode, check, commit_is_enough, is_early};
use crate::state_machine::StateMachine;
use crate::write::{Acknowledged, Submission};

pub use values::{
    Answer, Member, Prefer, ReadLevel, ReadOptions, Role, Status, View, WriteOptions, Written,
};

/// One member of a replicated group of machines `M`. Cheap to clone.
pub struct Node<M: StateMachine> {
    parts: Arc<Parts<M>>,
}

pub(crate) struct Parts<M> {
    replica: Arc<Replica<M>>,
    group: Group,
}

impl<M: StateMachine> Clone for Node<M> {
    fn clone(&self) -> Self {
        Self { parts: self.parts.clone() }
    }
}

impl<M: StateMachine> std::fmt::Debug for Node<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl<M: StateMachine> Due for Replica<M> {
    fn due(&self, upto: Hlc, limit: usize) -> Vec<Bytes> {
        Self::due(self, upto, limit).unwrap_or_else(|error| {
            tracing::error!(%error, "deadlines cannot be read");
            Vec::new()
        })
    }
}

impl<M: StateMachine> Node<M> {
    /// Opens the node in its environment: replays the log, serves its peers, and takes part. A new
    /// folder waits to be bootstrapped or added.
    pub async fn open(
        env: Env,
        engines: Arc<dyn Engines>,
        machine: M,
        config: Config,
    ) -> Result<Self, OpenError> {
        config.validate()?;
        // Everything that consensus starts belongs to the node, and finds its environment there.
        let scope = env.clone();
        scope.scope(Self::open_in_scope(env, engines, machine, config)).await
    }

    async fn open_in_scope(
        env: Env,
        engines: Arc<dyn Engines>,
        machine: M,
        config: Config,
    ) -> Result<Self, OpenError> {
        let identity = Identity::open(&env.disk, config.node, &config.cluster_name).await?;
        let replica = Arc::new(Replica::open(machine, engines, config.change_feed).await?);
        let group = Group::open(env, config, identity, replica.clone(), replica.clone()).await?;
        let parts = Arc::new(Parts { replica, group });
        parts.group.answer_reads(Arc::new(Answering(Arc::downgrade(&parts))));
        Ok(Self { parts })
    }

    /// The node of these parts.
    pub(crate) const fn from_parts(parts: Arc<Parts<M>>) -> Self {
        Self { parts }
    }

    /// Makes this node's folder the first of a new cluster of these members. Call it on one node.
    /// Idempotent: a node that has members already returns `Ok` and changes nothing.
    pub async fn bootstrap(&self, members: Vec<Member>) -> Result<(), AdminError> {
        if !members.iter().any(|member| member.id == self.id()) {
            return Err(AdminError::Refused(format!(
                "the members of the new cluster do not include this node ({})",
                self.id()
            )));
        }
        self.parts.group.initialize(members).await
    }

    /// This node.
    pub fn id(&self) -> NodeId {
        self.parts.group.config.node
    }

    /// The machine, for its own read functions.
    pub fn machine(&self) -> &M {
        self.parts.replica.machine()
    }

    /// Writes through this node, whoever leads: the command takes its place in this node's order
    /// **now**, and the future waits for its acknowledgement. Commands submitted one after the
    /// other are applied in that order, each exactly once, also over a failover.
    pub fn write(
        &self,
        command: M::Command,
        options: WriteOptions,
    ) -> impl Future<Output = Result<Written<M::Reply>, WriteError>> + Send + 'static + use<M> {
        let mode = options.mode.unwrap_or_else(|| self.parts.group.config.write_mode.clone());
        let blind = self.machine().blind_reply(&command).filter(|_| is_early(&mode));
        let early = blind.is_some().then(|| mode.clone());
        let members = self.parts.group.consensus.members();
        let submitted = check(&mode, &members).map_err(WriteError::Refused);
        let submitted = submitted.and_then(|()| self.submit(&command, early, options.timeout));
        let deadline = self.parts.group.env.now() + options.timeout;
        let node = self.clone();
        async move {
            let done = submitted?.await.unwrap_or(Err(WriteError::Unknown { at: None }))?;
            let Acknowledged { at, sub, stamp, client, reply, mut report } = done;
            let group = &node.parts.group;
            // Without the cluster's id nobody could tell the write's fate by its receipt.
            let Some(cluster) = node.cluster(deadline).await else {
                return Err(WriteError::Unknown { at: Some(at) });
            };
            let receipt = LogReceipt {
                cluster,
                epoch: group.epoch,
                group: GroupId(0),
                at,
                sub,
                stamp,
                client: Some(client),
            };
            let decoded = match reply {
                None => blind,
                Some(bytes) => {
                    let decoded = codec::decode_body(&bytes);
                    decoded.inspect_err(|error| tracing::error!(%error, "an unreadable reply")).ok()
                }
            };
            let Some(reply) = decoded else { return Err(WriteError::Unknown { at: Some(at) }) };
            if report.committed && !commit_is_enough(&mode, &group.consensus.members()) {
                let left = deadline.since(group.env.now());
                match group.reach(at, &mode, left).await {
                    Some(told) if told.reached => report = told.report,
                    told => {
                        let report = told.map_or(report, |told| told.report);
                        let report = AckReport { committed: true, ..report };
                        let receipt = Box::new(receipt);
                        return Err(WriteError::AckTimeout { receipt, report });
                    }
                }
            }
            Ok(Written { reply, at, sub, receipt, report })
        }
    }

    /// Tells what has become of a write, by its receipt. Any member answers, and an answer other
    /// than [`Fate::Pending`] never changes.
    pub async fn resolve(
        &self,
        receipt: &Receipt,
        timeout: Duration,
    ) -> Result<Fate, ResolveError> {
        let Receipt::Log(receipt) = receipt else {
            let what = "this receipt is of another strategy; ask the cluster that gave it";
            return Err(ResolveError::Foreign(what.into()));
        };
        let parts = &self.parts;
        if let Some(cluster) = parts.replica.applied().cluster
            && cluster != receipt.cluster
        {
            return Err(ResolveError::Foreign(format!(
                "this receipt is of cluster {}, and this is cluster {cluster}",
                receipt.cluster
            )));
        }
        if receipt.epoch != parts.group.epoch {
            return Err(ResolveError::Foreign(format!(
                "this receipt is of history {}, and this member is in history {}",
                receipt.epoch.0, parts.group.epoch.0
            )));
        }
        self.sound()?;
        if let Some(fate) = parts.replica.fate(receipt.at) {
            return Ok(fate);
        }
        // Everything that is committed by now, if a majority answers.
        let known = parts.group.strong.index(timeout).await?;
        wait_applied(&parts.group.env, &mut parts.replica.progress(), known.at, timeout).await?;
        Ok(parts.replica.fate(receipt.at).unwrap_or(Fate::Pending))
    }

    /// The mode of writes that name none.
    pub fn write_mode(&self) -> ReplicationMode {
        self.parts.group.config.write_mode.clone()
    }

    /// What a write mode and a read level give and cost together in this cluster, as asked on this
    /// node.
    pub fn explain(&self, mode: &ReplicationMode, level: Consistency) -> Result<TradeOff, String> {
        let group = &self.parts.group;
        let members = group.consensus.members();
        check(mode, &members)?;
        let leads = group.consensus.leads().is_some();
        Ok(explain(mode, level, &members, group.config.election_timeout_max, leads))
    }

    /// What seals this cluster's tokens and receipts for clients. None before the cluster has a name
    /// and this member knows it.
    pub fn seal(&self) -> Option<(ClusterId, ClusterSecret)> {
        let applied = self.parts.replica.applied();
        Some((applied.cluster?, ClusterSecret::new(applied.secret)))
    }

    /// The token of a session that has seen nothing yet. None before the node's cluster has a name
    /// and this member knows it.
    pub fn token(&self) -> Option<LogToken> {
        let cluster = self.parts.replica.applied().cluster?;
        Some(LogToken::new(cluster, self.parts.group.epoch))
    }

    /// The cluster. A write of its first moments may be acknowledged before this replica knows it.
    pub(crate) async fn cluster(&self, deadline: Mono) -> Option<ClusterId> {
        let (replica, env) = (&self.parts.replica, &self.parts.group.env);
        let mut progress = replica.progress();
        loop {
            progress.borrow_and_update();
            if let Some(cluster) = replica.applied().cluster {
                return Some(cluster);
            }
            match env.timeout_at(deadline, progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }

    /// Waits until this replica has everything that a token covers.
    async fn cover(&self, token: &LogToken, deadline: Mono) -> Result<(), ReadError> {
        let parts = &self.parts;
        let Some(cluster) = self.cluster(deadline).await else {
            let what = "this member does not know its cluster yet; retry, or ask another member";
            return Err(ReadError::OtherToken(what.into()));
        };
        let own = (cluster, parts.group.epoch);
        if (token.cluster, token.epoch) != own {
            return Err(ReadError::OtherToken(format!(
                "the token is of cluster {} and history {}; this member is of cluster {} and \
                 history {}",
                token.cluster, token.epoch.0, own.0, own.1.0
            )));
        }
        let env = &parts.group.env;
        let mut progress = parts.replica.progress();
        let left = || deadline.since(env.now());
        if token.committed > LogPos::default() {
            let skips = mutate!("causal_reads_do_not_wait", false, true);
            let at = Some(token.committed).filter(|_| !skips);
            wait_applied(env, &mut progress, at, left()).await?;
        }
        for (term, index) in &token.pending {
            let at = LogPos { term: *term, index: *index };
            loop {
                progress.borrow_and_update();
                match parts.replica.fate(at) {
                    Some(Fate::Committed) => break,
                    Some(Fate::Lost { .. }) => return Err(ReadError::SessionLost { lost: at }),
                    _ => {}
                }
                match env.timeout(left(), progress.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Err(ReadError::Stopping(env.node)),
                    Err(_) => return Err(ReadError::Behind(left())),
                }
            }
        }
        Ok(())
    }

    fn submit(
        &self,
        command: &M::Command,
        early: Option<ReplicationMode>,
        timeout: Duration,
    ) -> Result<
        tokio::sync::oneshot::Receiver<Result<crate::write::Acknowledged, WriteError>>,
        WriteError,
    > {
        let parts = &self.parts;
        parts.replica.machine().admit(command).map_err(|r| WriteError::Refused(r.reason))?;
        let bytes = codec::encode_body(command);
        let limit = parts.group.config.max_command_bytes;
        if bytes.len() > limit {
            return Err(WriteError::Refused(format!(
                "a command of {} bytes is over max_command_bytes ({limit}); not applied",
                bytes.len()
            )));
        }
        let (command, shrinks) = (bytes.into(), parts.replica.machine().shrinks(command));
        if let Some(why) = parts.group.over_quota(&command) {
            return Err(WriteError::OverQuota(why));
        }
        let submission = Submission { command, shrinks, early, timeout };
        parts.group.writer.submit(submission)
    }

    /// A consistent cut to read from, as fresh as asked for.
    pub async fn view(&self, options: ReadOptions) -> Result<View, ReadError> {
        let parts = &self.parts;
        let group = &parts.group;
        self.sound()?;
        if let ReadLevel::At(at) = options.level {
            return self.view_at(at, options.token.as_ref());
        }
        let deadline = group.env.now() + options.timeout;
        let index = match options.level {
            ReadLevel::At(_) | ReadLevel::Eventual | ReadLevel::Causal => None,
            ReadLevel::Strong => {
                let known = group.strong.index(options.timeout);
                mutate!("local_read_called_strong", Some(known.await?), None)
            }
            ReadLevel::Bounded(age) => {
                group.freshness.within(age, options.timeout).await?;
                None
            }
            ReadLevel::Lease => Some(group.lease.index(options.timeout).await?),
        };
        if let Some(ReadIndex { at, .. }) = index {
            let left = deadline.since(group.env.now());
            wait_applied(&group.env, &mut parts.replica.progress(), at, left).await?;
        }
        if let Some(token) = &options.token {
            self.cover(token, deadline).await?;
        }
        let (state, applied) = parts.replica.cut()?;
        self.sound()?;
        let now = index.map_or(applied.clock, |index| index.clock.max(applied.clock));
        let at = applied.at.unwrap_or_default();
        Ok(View { state, applied: at, clock: applied.clock, now })
    }

    /// The state at a position that is kept, or is the newest.
    fn view_at(&self, at: LogPos, token: Option<&LogToken>) -> Result<View, ReadError> {
        let Parts { replica, group } = &*self.parts;
        let covers = token.is_none_or(|token| token.committed <= at && token.pending.is_empty());
        if let Some(view) = group.pins.at(at).filter(|_| covers) {
            return mutate!("snapshot_reads_the_present", Ok(view), self.view_now());
        }
        if replica.applied().at == Some(at) && covers {
            let view = self.view_now()?;
            if view.applied == at {
                return Ok(view);
            }
        }
        sometimes!("snapshot-too-old");
        Err(ReadError::SnapshotTooOld { at, oldest: group.pins.oldest() })
    }

    fn view_now(&self) -> Result<View, ReadError> {
        let (state, applied) = self.parts.replica.cut()?;
        let (clock, now) = (applied.clock, applied.clock);
        Ok(View { state, applied: applied.at.unwrap_or_default(), clock, now })
    }

    /// A consistent cut, as fresh as asked for, that this member keeps: later reads at
    /// [`ReadLevel::At`] its [`View::applied`] see it again, until it is released as often as it was
    /// asked for, or for [`Config::snapshot_retention`], or until [`Config::max_snapshots`] newer ones
    /// are kept. At [`ReadLevel::At`] itself it joins one that is kept.
    pub async fn snapshot(&self, options: ReadOptions) -> Result<View, ReadError> {
        let view = self.view(options).await?;
        self.parts.group.pins.keep(&view);
        Ok(view)
    }

    /// A snapshot is not needed any more by one of those who asked for it; whether it was kept.
    pub fn release_snapshot(&self, at: LogPos) -> bool {
        self.parts.group.pins.release(at)
    }

    /// Refuses while this member's state is known to be wrong.
    fn sound(&self) -> Result<(), ReadError> {
        match self.parts.group.consensus.integrity().quarantined() {
            Some(why) => Err(ReadError::Quarantined(why)),
            None => Ok(()),
        }
    }

    /// What happens on this node from now on. A receiver that falls far behind misses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.parts.group.events.subscribe()
    }

    pub(crate) fn group(&self) -> &Group {
        &self.parts.group
    }

    /// The folder of this node.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.parts.group.env.disk
    }

    /// The state as it is now, pinned.
    pub(crate) fn pin(&self) -> Result<Pinned, EngineError> {
        self.parts.replica.pin()
    }

    /// What this member runs in: environment, configuration, history.
    pub(crate) fn surroundings(&self) -> (&Env, &Config, Epoch) {
        let group = &self.parts.group;
        (&group.env, &group.config, group.epoch)
    }

    /// How old this member's state may be at most, by the last proof; none before the first bounded
    /// read.
    pub fn proven_age(&self) -> Option<Duration> {
        self.parts.group.freshness.age()
    }

    /// What this node knows of itself and its group. Never waits.
    pub fn status(&self) -> Status {
        let parts = &self.parts;
        let view = parts.group.consensus.view();
        let applied = parts.replica.applied();
        let (sessions, state_bytes) = parts.replica.size();
        let usage = parts.replica.counter().usage;
        let (quota, quota_refused) = parts.group.quota();
        let roster = parts.replica.roster();
        let matched = if view.role == Role::Leader {
            let proven = parts.group.consensus.matched();
            let members = view.voters.keys().chain(view.learners.keys());
            members.map(|id| (*id, proven.get(id).copied())).collect()
        } else {
            BTreeMap::new()
        };
        Status {
            id: self.id(),
            cluster: applied.cluster,
            role: view.role,
            leader: view.leader,
            term: view.term,
            last_log: view.last_log,
            committed: view.committed,
            applied: applied.at,
            snapshot: view.snapshot,
            purged: view.purged,
            voters: view.voters,
            learners: view.learners,
            next_id: roster.next_id().filter(|_| roster.highest > 0),
            attributes: roster.attributes,
            replacing: roster.replacing,
            changing: view.joint,
            matched,
            sessions,
            state_bytes,
            round_trips: parts.group.nearest.times(),
            snapshots: parts.group.pins.len(),
            usage,
            quota,
            quota_refused,
            disk: parts.group.consensus.disk(),
            quarantine: parts.group.consensus.integrity().quarantined(),
            failure: view.failure,
        }
    }

    /// Waits until the status satisfies `condition`, or returns the last one at the deadline.
    pub async fn wait_until(
        &self,
        timeout: Duration,
        condition: impl Fn(&Status) -> bool + Send,
    ) -> Result<Status, Box<Status>> {
        let env = &self.parts.group.env;
        let deadline = env.now() + timeout;
        // Watched before the status is looked at, so that no change in between is missed.
        let mut changes = self.parts.group.consensus.changes();
        loop {
            let status = self.status();
            if condition(&status) {
                return Ok(status);
            }
            let now = env.now();
            if now >= deadline {
                return Err(Box::new(status));
            }
            let changed = env.timeout_at(deadline.min(now + Self::LOOK), changes.next()).await;
            let next = now + Self::APART;
            if matches!(changed, Ok(())) && env.now() < next {
                env.clock.sleep_until(next.min(deadline)).await;
            }
        }
    }

    /// Returns why this node stopped taking part, once it has.
    pub async fn failed(&self) -> String {
        let Group { env, consensus, .. } = &self.parts.group;
        while !consensus.has_stopped() {
            env.sleep(Self::LOOK).await;
        }
        consensus.failure().unwrap_or_else(|| "its consensus core has stopped".to_owned())
    }

    /// How often a waiting caller looks at what changes without notice, such as the disk's health.
    const LOOK: Duration = Duration::from_millis(200);
    /// How far two looks are apart at least: under load there are changes with every entry.
    const APART: Duration = Duration::from_millis(5);

    /// Hands leadership to `to`, or to the most caught-up voter, and returns who leads then: another
    /// voter may be elected when `to` does not answer. Ask the leader.
    pub async fn transfer(&self, to: Option<NodeId>) -> Result<NodeId, AdminError> {
        self.parts.group.transfer(to).await
    }

    /// Adds a member without a vote. Its id must be higher than any that was given before: see
    /// [`Status::next_id`]. Ask the leader.
    pub async fn add_learner(&self, member: Member) -> Result<(), AdminError> {
        self.parts.group.add_learner(member).await
    }

    /// Gives a learner a vote that lacks at most 1,000 entries and whose state is at most a second
    /// old, in three pings in a row. Ask the leader.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotCaughtUp`] if it does not, [`AdminError::Dangerous`] if its vote would put
    /// the cluster in danger. Nothing is changed then.
    pub async fn promote(&self, id: NodeId, options: ChangeOptions) -> Result<Changed, AdminError> {
        self.parts.group.promote(id, options).await
    }

    /// Removes a member. A leader that is to be removed hands over and answers
    /// [`AdminError::NotLeader`]: ask the new leader then. Ask the leader.
    pub async fn remove(&self, id: NodeId, options: ChangeOptions) -> Result<Changed, AdminError> {
        self.parts.group.remove(id, options).await
    }

    /// Has a new member take a voter's place: it becomes a learner, catches up, and then gets its
    /// vote in the same change that removes the old one. Ask the leader.
    ///
    /// Whatever fails on the way, [`Status::replacing`] tells that it was begun; the same call goes
    /// on with it, on any leader, and [`Node::abort_replace`] takes it back. A leader that is to be
    /// replaced hands over and answers [`AdminError::NotLeader`]: ask the new leader then.
    pub async fn replace(
        &self,
        old: NodeId,
        new: Member,
        options: ChangeOptions,
    ) -> Result<Changed, AdminError> {
        self.parts.group.replace(old, new, options).await
    }

    /// Takes back the replacement that is under way and removes its learner. Ask the leader.
    pub async fn abort_replace(&self) -> Result<(), AdminError> {
        self.parts.group.abort_replace().await
    }

    /// Sets attributes of a member, in the state of all members. Ask the leader.
    pub async fn describe(&self, id: NodeId, attributes: Vec<Attribute>) -> Result<(), AdminError> {
        self.parts.group.describe(id, attributes).await
    }

    /// Changes the address of another member, which must answer from there already. Ask the leader.
    pub async fn relocate(&self, id: NodeId, address: String) -> Result<(), AdminError> {
        self.parts.group.relocate(id, address).await
    }

    /// Has all members compare their states at one position of the log, and returns what they have
    /// by the deadline. A member whose state differs from the majority's serves no reads from then
    /// on, and fetches the state from another. Any node can be asked.
    pub async fn check(&self, timeout: Duration) -> Result<Checked, AdminError> {
        self.parts.group.check(timeout).await
    }

    /// Sets how large the state may become, for the whole cluster and instead of what any
    /// configuration says. [`Quota::default`] is without bounds. Any node can be asked.
    pub async fn set_quota(&self, quota: Quota, timeout: Duration) -> Result<(), AdminError> {
        self.parts.group.set_quota(quota, timeout).await
    }

    /// What the state says of its size, and what counting all of it says: equal, or the state is
    /// damaged. Reads the whole state of this member.
    pub fn audit_usage(&self) -> Result<(Usage, Usage), EngineError> {
        let Pinned { state, keyspaces, .. } = self.pin()?;
        let holds_keys = |keyspace| self.machine().holds_keys(keyspace);
        let counted = quota::count(state.as_ref(), &keyspaces, &holds_keys)?;
        Ok((quota::read_usage(state.as_ref())?.unwrap_or(counted), counted))
    }

    /// Checkpoints the state now and lets the log before it go.
    pub async fn checkpoint(&self) -> Result<LogPos, AdminError> {
        self.parts.group.checkpoint().await
    }

    /// Stops gracefully: a leader hands over first, what was acknowledged is on disk.
    pub async fn shutdown(&self) {
        self.parts.group.shutdown().await;
    }
}
