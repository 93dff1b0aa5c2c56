//! The fence around openraft.
//!
//! openraft is named in this folder only, and none of its types is in a public signature, on the
//! wire or on disk: its API moves with nearly every release, and an upgrade must never be more than
//! work in here. What the rest of the crate sees is [`Consensus`], in our own words.

mod acks;
mod log_store;
mod machine;
mod network;
mod offline;
mod refill;
mod repair;
mod runtime;
mod server;
mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
mod type_config;
mod vote_gate;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use common::env::{Env, Mono};
use common::ids::{LogPos, NodeId};
use common::storage::wal::{DiskHealth, WalError};
use common::transport::Class;
use futures::future::Either;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::linearizable_read::LinearizerOption;
use openraft::{ChangeMembers, ServerState};
use tokio::sync::watch;

use crate::apply::Applier;
use crate::config::Config;
use crate::divergence::Integrity;
use crate::election::Standing;
use crate::entry::EntryReply;
use crate::error::{AdminError, OpenError};
use crate::membership::placement::Places;
use crate::message::{Cause, Proof, Reply, Request};
use crate::node::{Member, Role};
use crate::replication_mode::{Members, Progress};
use crate::watch::hold::Holds;

use acks::Acks;
use log_store::LogStore;
pub(crate) use log_store::{Judgement, Run as LostRun};
use machine::RaftMachine;
pub(crate) use machine::member_ids;
use network::Network;
pub(crate) use offline::{Found, begin, encode_members, inspect};
pub(crate) use server::Local;
use snapshot::{Receiver, Sender};
pub(crate) use type_config::Growth;
pub(crate) use type_config::{Batch, Slot};
use type_config::{Cmd, PeerAddr, SlotResponder, TypeConfig, position};
use vote_gate::{Past, VoteGate};

type Raft = openraft::Raft<TypeConfig, RaftMachine>;

/// What came of a proposal.
#[derive(Debug)]
pub(crate) enum Proposed {
    /// It is applied.
    Applied(EntryReply),
    /// It was never appended.
    NotLeader(Option<NodeId>),
    /// It was appended, here if that is known, and this node does not know whether it is committed.
    Unknown(Option<LogPos>),
}

/// One member's part in the group's agreement.
#[derive(Clone)]
pub(crate) struct Consensus(Arc<Parts>);

struct Parts {
    env: Env,
    config: Config,
    raft: RwLock<Raft>,
    log: LogStore,
    acks: Acks,
    applier: Arc<dyn Applier>,
    machine: RaftMachine,
    receiver: Receiver,
    sender: Arc<Sender>,
    gate: VoteGate,
    integrity: Integrity,
    /// Whether the core is down only to be started again.
    reopening: AtomicBool,
    leader: watch::Sender<Option<NodeId>>,
    /// When a leader of the newest term was heard last.
    heard: Mutex<Option<Mono>>,
    /// Why the core ended without saying so itself.
    died: OnceLock<String>,
}

impl fmt::Debug for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consensus({:?})", self.0.env.node)
    }
}

/// What consensus knows, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) role: Role,
    pub(crate) leader: Option<NodeId>,
    pub(crate) term: u64,
    pub(crate) last_log: Option<u64>,
    pub(crate) committed: Option<LogPos>,
    pub(crate) snapshot: Option<LogPos>,
    pub(crate) purged: Option<LogPos>,
    pub(crate) voters: BTreeMap<NodeId, Member>,
    pub(crate) learners: BTreeMap<NodeId, Member>,
    /// Whether a change of the voters is between its two steps.
    pub(crate) joint: bool,
    pub(crate) failure: Option<String>,
}

impl Consensus {
    /// Opens this node's log and its part in the agreement over a replica. Nothing runs until
    /// [`Consensus::serve`].
    pub(crate) async fn open(
        env: &Env,
        config: &Config,
        applier: Arc<dyn Applier>,
    ) -> Result<Self, OpenError> {
        let acks = Acks::new(env.node);
        let log = LogStore::open(env, config, acks.clone()).await?;
        if let Some(purged) = log.purged()
            && applier.applied().at < Some(purged)
        {
            refill::refill(env, config, &applier, &log, purged).await?;
        }
        let applied = applier.applied().at;
        if log.gives_way_to(applied) {
            // What the log drops must not be lost with a state that only the memory has.
            applier.checkpoint().await?;
        }
        log.reconcile(applied).await?;
        let machine = RaftMachine::new(applier.clone(), log.clone(), log.purged());
        let sender = Arc::new(Sender::new(env, applier.clone(), config.snapshot_chunk_bytes));
        let raft = build(env, config, &log, &machine, &acks, &sender).await?;
        let past = match log.vote() {
            None => Past::NoVote,
            Some(_) if raft.voter_ids().eq([env.node.0]) => Past::SoleVoter,
            Some(_) => Past::Voter,
        };
        let gate = VoteGate::new(env, config, past);
        Ok(Self(Arc::new(Parts {
            env: env.clone(),
            config: config.clone(),
            raft: RwLock::new(raft),
            log,
            acks,
            receiver: Receiver::new(applier.clone()),
            applier,
            machine,
            sender,
            gate,
            integrity: Integrity::open(env).await?,
            reopening: AtomicBool::new(false),
            leader: watch::Sender::new(None),
            heard: Mutex::default(),
            died: OnceLock::new(),
        })))
    }

    /// Serves the peers and takes part from now on. `local` answers what is not consensus's.
    pub(crate) fn serve(&self, local: Arc<dyn Local>) {
        let env = &self.0.env;
        env.transport.serve(Arc::new(server::Server::new(self.clone(), local)));
        self.raft().run();
        env.spawn("leader watch", follow(self.clone()));
        env.spawn("vote gate", open_gate(self.clone()));
    }

    fn raft(&self) -> Raft {
        self.0.raft.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Proposes an entry, whose position will be in the slot. `done` is called when its fate is
    /// known, also when that is unknown.
    pub(crate) async fn propose(
        &self,
        body: Bytes,
        growth: Growth,
        slot: Arc<Slot>,
        done: impl FnOnce(Proposed) + Send + 'static,
    ) {
        let responder = SlotResponder::new({
            let done = OnDrop::new(slot.clone(), done);
            let slot = slot.clone();
            move |result: openraft::raft::ClientWriteResult<TypeConfig>| {
                done.call(match result {
                    Ok(written) => {
                        let reply = written.data.0.and_then(|reply| reply.downcast().ok());
                        Proposed::Applied(reply.map_or(EntryReply::Nothing, |reply| *reply))
                    }
                    Err(ClientWriteError::ForwardToLeader(to)) => {
                        Proposed::NotLeader(to.leader_id.map(NodeId))
                    }
                    Err(_) => Proposed::Unknown(slot.position()),
                });
            }
        });
        let mut command = Cmd::new(body, Some(slot));
        command.growth = growth;
        // When the core has stopped, the responder is dropped, which calls `done`.
        let _ = self.raft().client_write_ff(command, Some(responder)).await;
    }

    /// How far the log was committed when this was asked, if this node still leads.
    pub(crate) async fn read_index(&self, proof: Proof, wait: Duration) -> Option<LogPos> {
        if common::mutate!("lease_never_checked", false, proof == Proof::Lease) {
            return self.leads().and(self.view().committed);
        }
        let age = match proof {
            Proof::Round => Duration::ZERO,
            Proof::Lease => self.0.config.lease_read_max_age,
        };
        let option = LinearizerOption::new(Some(age), true).with_wait_timeout(wait);
        let linearizer = self.raft().get_read_linearizer(option).await.ok()?;
        Some(position(linearizer.read_log_id().log_id()))
    }

    /// Who leads, as far as this node knows.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        *self.0.leader.borrow()
    }

    /// Who leads, as it changes.
    pub(crate) fn watch_leader(&self) -> watch::Receiver<Option<NodeId>> {
        self.0.leader.subscribe()
    }

    /// The term that this node leads, if it leads.
    pub(crate) fn leads(&self) -> Option<u64> {
        let raft = self.raft();
        let metrics = raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let led = metrics.state == ServerState::Leader
            && metrics.vote.committed
            && self.0.died.get().is_none();
        led.then_some(metrics.vote.leader_id.term)
    }

    /// The voters besides this node.
    pub(crate) fn other_voters(&self) -> Vec<NodeId> {
        let raft = self.raft();
        let me = self.0.env.node;
        raft.voter_ids().map(NodeId).filter(|id| *id != me).collect()
    }

    /// Another node's wall clock, in milliseconds.
    pub(crate) async fn ping(&self, peer: NodeId, deadline: Duration) -> Option<u64> {
        let call =
            self.0.env.transport.call(peer, Class::Control, Request::Ping.encode(), deadline);
        match Reply::decode(&call.await.ok()?) {
            Ok(Reply::Pong { wall_millis }) => Some(wall_millis),
            _ => None,
        }
    }

    /// What this node holds, and whether it could lead.
    pub(crate) fn standing(&self) -> Standing {
        let Parts { env, config, log, gate, .. } = &*self.0;
        let health = log.health();
        let waits = Duration::from_micros(health.oldest_unsynced_micros);
        let able = self.integrity().quarantined().is_none()
            && health.poisoned.is_none()
            && common::mutate!(
                "stalled_disk_never_noticed",
                waits <= config.disk_stall_limit,
                true
            )
            && gate.answers(env.now(), Cause::Silence);
        Standing { id: env.node, last: log.last(), priority: self.priority(), able }
    }

    /// How much this node is wanted as leader: as the state says, else its configuration.
    pub(crate) fn priority(&self) -> u8 {
        let said = self.0.applier.roster().of(self.0.env.node);
        if said.hidden { 0 } else { said.priority.unwrap_or(self.0.config.election_priority) }
    }

    /// Whether another node is wanted as leader before the last resort, as far as the state says.
    pub(crate) fn wanted(&self, id: NodeId) -> bool {
        let said = self.0.applier.roster().of(id);
        !said.hidden && said.priority != Some(0)
    }

    /// Where members stand: as the state says, else as this node's configuration does.
    pub(crate) fn places(&self) -> Places {
        let Parts { config, applier, .. } = &*self.0;
        let mut places = Places { regions: config.regions.clone(), racks: config.racks.clone() };
        for (id, said) in applier.roster().attributes {
            places.regions.extend(said.region.map(|region| (id, region)));
            places.racks.extend(said.rack.map(|rack| (id, rack)));
        }
        places
    }

    /// This node.
    pub(crate) fn me(&self) -> NodeId {
        self.0.env.node
    }

    /// What this node knows of its own state.
    pub(crate) fn integrity(&self) -> &Integrity {
        &self.0.integrity
    }

    /// What another voter says of itself.
    pub(crate) async fn poll(&self, voter: NodeId, deadline: Duration) -> Option<Standing> {
        let request = Request::Poll.encode();
        let call = self.0.env.transport.call(voter, Class::Control, request, deadline);
        match Reply::decode(&call.await.ok()?) {
            Ok(Reply::Polled { last, priority, able }) => {
                Some(Standing { id: voter, last, priority, able })
            }
            _ => None,
        }
    }

    /// Notes that a leader of this term shows that it lives, unless its term is over.
    fn hear(&self, term: u64) {
        if self.0.log.vote().is_none_or(|vote| term >= vote.term) {
            let mut heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
            *heard = Some(self.0.env.now());
        }
    }

    /// The newest vote of this node: in which term, and for whom.
    pub(crate) fn voted_for(&self) -> Option<(u64, NodeId)> {
        self.0.log.vote().map(|vote| (vote.term, vote.node))
    }

    /// When a leader was heard last.
    pub(crate) fn heard(&self) -> Option<Mono> {
        *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when this node may ask for votes.
    pub(crate) async fn gate_opens(&self) {
        self.0.gate.wait(&self.0.env).await;
    }

    /// Whether the core may ask for votes by its own timer.
    pub(crate) fn allow_elections(&self, allow: bool) {
        self.raft().runtime_config().elect(allow);
    }

    /// Asks for votes now, unless a leader is known to live.
    pub(crate) async fn ask_for_votes(&self) {
        let _ = self.raft().trigger().elect(true).await;
    }

    /// The last entry that this node has applied.
    fn applied(&self) -> Option<LogPos> {
        self.0.applier.applied().at
    }

    /// Waits until the log has dropped entries since the last look.
    pub(crate) async fn dropped(&self) {
        self.0.log.dropped().await;
    }

    /// Whether anything that the log has dropped is not judged yet.
    pub(crate) fn suspects(&self) -> bool {
        self.0.log.suspects()
    }

    /// Judges what the log has dropped by the committed history, and returns what is lost.
    pub(crate) fn judge_dropped(&self) -> Vec<LostRun> {
        self.0.log.judge(|term, indexes| self.0.applier.judge(term, indexes))
    }

    /// The bodies of entries with commands of a lost run, from its `skip`-th entry on, and how many
    /// entries these are: none at its end.
    pub(crate) async fn read_dropped(
        &self,
        run: &LostRun,
        skip: u64,
    ) -> Result<(u64, Vec<(LogPos, Bytes)>), WalError> {
        let (passed, entries) = self.0.log.read_dropped(run, skip).await?;
        let commands = entries.into_iter().filter_map(|entry| Some((entry.at, entry.commands()?)));
        Ok((passed, commands.collect()))
    }

    /// A lost run is kept elsewhere, durably.
    pub(crate) fn settle(&self, run: &LostRun) {
        self.0.log.settle(run);
    }

    /// Lets the log's segments go that nothing needs any more.
    pub(crate) fn release_settled(&self) {
        self.0.log.release_settled();
    }

    /// Whether the log's disk is full but for its reserve.
    pub(crate) fn disk_full(&self) -> bool {
        self.0.log.is_full()
    }

    /// How the log's disk is doing.
    pub(crate) fn disk(&self) -> DiskHealth {
        self.0.log.health()
    }

    /// The last entry that the log has let go.
    pub(crate) fn purged(&self) -> Option<LogPos> {
        self.0.log.purged()
    }

    /// Per member, the last entry that it is known to hold durably, by proofs of this term.
    pub(crate) fn matched(&self) -> BTreeMap<NodeId, LogPos> {
        self.0.acks.matched()
    }

    /// Whether a majority has answered this leader within one lease.
    fn has_lease(&self) -> bool {
        let raft = self.raft();
        let me = self.0.env.node.0;
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.membership_config.membership().voter_ids().eq([me]) {
            return true;
        }
        let acked = metrics.last_quorum_acked.map(|at| at.into_inner().0);
        acked.is_some_and(|at| self.0.env.now() < at + self.0.config.election_timeout_max)
    }

    /// What is known of who holds what, and of whom.
    pub(crate) fn progress(&self) -> (Progress, Members) {
        let parts = &self.0;
        let me = parts.env.node;
        let (leads, applied) = (self.leads(), self.applied());
        let acks::Held { durable, applied: mut by_all, heard } = parts.acks.held();
        by_all.extend(applied.map(|at| (me, at)));
        let lease = parts.config.election_timeout_max;
        let now = parts.env.now();
        let present = heard.into_iter().filter(|(_, at)| now < *at + lease).map(|(id, _)| id);
        let lease_holds = common::mutate!("acknowledged_without_lease", self.has_lease(), true);
        let progress = Progress {
            leader: me,
            leads: leads.filter(|_| lease_holds),
            // What is applied is committed, and known without delay.
            committed: applied,
            durable,
            applied: by_all,
            present: present.collect(),
        };
        (progress, self.members())
    }

    /// The members now.
    pub(crate) fn members(&self) -> Members {
        let raft = self.raft();
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().map(NodeId).collect();
        let all = membership.nodes().map(|(id, _)| NodeId(*id));
        let learners: BTreeSet<NodeId> = all.filter(|id| !voters.contains(id)).collect();
        let mut regions = self.places().regions;
        regions.retain(|id, _| voters.contains(id) || learners.contains(id));
        Members { voters, learners, regions }
    }

    /// Asks a member to say when it has applied an entry, and notes its answer.
    pub(crate) async fn ask_applied(&self, member: NodeId, at: LogPos) {
        let Some(term) = self.leads() else { return };
        let request = Request::Applied { at }.encode();
        let deadline = server::APPLIED_WITHIN * 2;
        let call = self.0.env.transport.call(member, Class::Control, request, deadline);
        if let Ok(bytes) = call.await
            && let Ok(Reply::Applied { at: Some(at) }) = Reply::decode(&bytes)
        {
            self.0.acks.applied(term, member, at);
        }
    }

    /// What a member has applied, as soon as that is `at` or after a second.
    pub(crate) async fn applied_by(
        &self,
        member: NodeId,
        at: LogPos,
        deadline: Duration,
    ) -> Option<LogPos> {
        let request = Request::Applied { at }.encode();
        let call = self.0.env.transport.call(member, Class::Control, request, deadline);
        match Reply::decode(&call.await.ok()?) {
            Ok(Reply::Applied { at }) => at,
            _ => None,
        }
    }

    /// Changes whenever a member is known to hold or to have applied more.
    pub(crate) fn watch_acks(&self) -> watch::Receiver<u64> {
        self.0.acks.changes()
    }

    /// What consensus knows, as it changes.
    pub(crate) fn changes(&self) -> Changes {
        let acks = self.0.acks.changes();
        Changes { consensus: self.clone(), metrics: self.raft().metrics(), acks }
    }

    /// Why this node stopped taking part, if it has. Says the same as [`View::failure`], for less.
    pub(crate) fn failure(&self) -> Option<String> {
        let raft = self.raft();
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let stopped = metrics.running_state.as_ref().err().map(ToString::to_string);
        let reopening = self.0.reopening.load(Ordering::Relaxed);
        stopped.filter(|_| !reopening).or_else(|| self.0.died.get().cloned())
    }

    /// Whether this node takes no part any more, for a failure or because it was stopped.
    pub(crate) fn has_stopped(&self) -> bool {
        let ended = self.raft().metrics().borrow_watched().state == ServerState::Shutdown;
        self.failure().is_some() || (ended && !self.0.reopening.load(Ordering::Relaxed))
    }

    /// What consensus knows now.
    pub(crate) fn view(&self) -> View {
        let failure = self.failure();
        let raft = self.raft();
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let reopening = self.0.reopening.load(Ordering::Relaxed);
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let mut view = View {
            role: match metrics.state {
                _ if failure.is_some() => Role::Stopped,
                ServerState::Shutdown if reopening => Role::Follower,
                ServerState::Leader => Role::Leader,
                ServerState::Candidate => Role::Candidate,
                ServerState::Follower => Role::Follower,
                ServerState::Learner if voters.is_empty() => Role::Uninitialized,
                ServerState::Learner => Role::Learner,
                ServerState::Shutdown => Role::Stopped,
            },
            leader: metrics.current_leader.map(NodeId),
            term: metrics.current_term,
            last_log: metrics.last_log_index,
            committed: metrics
                .cluster_committed
                .max(metrics.local_committed)
                .as_ref()
                .map(position),
            snapshot: metrics.snapshot.as_ref().map(position),
            purged: metrics.purged.as_ref().map(position),
            voters: BTreeMap::new(),
            learners: BTreeMap::new(),
            joint: membership.get_joint_config().len() > 1,
            failure,
        };
        for (id, node) in membership.nodes() {
            let member = Member { id: NodeId(*id), address: node.address.clone() };
            let list = if voters.contains(id) { &mut view.voters } else { &mut view.learners };
            list.insert(member.id, member);
        }
        view
    }

    /// Makes this node's empty log the first of a cluster of these members.
    pub(crate) async fn initialize(&self, members: &[Member]) -> Result<(), AdminError> {
        let raft = self.raft();
        match raft.is_initialized().await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(_) => return Err(AdminError::Stopping(self.0.env.node)),
        }
        let nodes: BTreeMap<u64, PeerAddr> =
            members.iter().map(|m| (m.id.0, PeerAddr { address: m.address.clone() })).collect();
        match raft.initialize(nodes).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(error)) => Err(AdminError::Refused(error.to_string())),
            Err(RaftError::Fatal(_)) => Err(AdminError::Stopping(self.0.env.node)),
        }
    }

    /// Changes the members.
    pub(crate) async fn change(&self, change: Change, timeout: Duration) -> Result<(), AdminError> {
        let me = self.0.env.node;
        let (members, retain) = match change {
            Change::AddLearner(member) => {
                let node = PeerAddr { address: member.address };
                (ChangeMembers::AddNodes(BTreeMap::from([(member.id.0, node)])), true)
            }
            Change::Promote(id) => (ChangeMembers::AddVoterIds(BTreeSet::from([id.0])), true),
            Change::RemoveVoter(id) => (ChangeMembers::RemoveVoters(BTreeSet::from([id.0])), false),
            Change::RemoveLearner(id) => {
                (ChangeMembers::RemoveNodes(BTreeSet::from([id.0])), false)
            }
            Change::Replace { old, new } => {
                let others = self.members().voters.into_iter().filter(|id| *id != old);
                let after = others.chain([new]).map(|id| id.0).collect();
                (ChangeMembers::ReplaceAllVoters(after), false)
            }
            Change::Relocate(member) => {
                let node = PeerAddr { address: member.address };
                (ChangeMembers::SetNodes(BTreeMap::from([(member.id.0, node)])), true)
            }
            // Openraft goes on to the last of the configurations that are in force.
            Change::Finish => (ChangeMembers::AddVoterIds(BTreeSet::new()), false),
        };
        let raft = self.raft();
        let changed = self.0.env.timeout(timeout, raft.change_membership(members, retain)).await;
        match changed {
            Err(_) => Err(AdminError::TimedOut(timeout)),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::Fatal(_))) => Err(AdminError::Stopping(me)),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                Err(AdminError::NotLeader { this: me, leader: to.leader_id.map(NodeId) })
            }
            Ok(Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)))) => {
                Err(AdminError::TimedOut(timeout))
            }
            Ok(Err(RaftError::APIError(error))) => Err(AdminError::Refused(error.to_string())),
        }
    }

    /// Asks a voter to take over. Whether it did shows in the leader.
    pub(crate) async fn hand_over(&self, to: NodeId) -> Result<(), AdminError> {
        let stopping = |_| AdminError::Stopping(self.0.env.node);
        self.raft().trigger().transfer_leader(to.0).await.map_err(stopping)
    }

    /// Starts the core again in this process. A leader whose transfer failed refuses everything
    /// until it has a new term, and the core has no other way out.
    pub(crate) async fn reopen(&self) -> Result<(), OpenError> {
        common::sometimes!("core-reopened");
        self.restart(std::future::ready(Ok(()))).await
    }

    /// Stops the core, does something, and starts the core again, whether that was done or not.
    async fn restart(
        &self,
        meanwhile: impl Future<Output = Result<(), OpenError>>,
    ) -> Result<(), OpenError> {
        let Parts { env, config, log, machine, acks, sender, .. } = &*self.0;
        self.0.reopening.store(true, Ordering::Relaxed);
        let _ = self.raft().shutdown().await;
        let done = meanwhile.await;
        let built = build(env, config, log, machine, acks, sender).await;
        if let Ok(raft) = &built {
            raft.runtime_config().elect(self.priority() > 0);
            *self.0.raft.write().unwrap_or_else(PoisonError::into_inner) = raft.clone();
            raft.run();
        }
        self.0.reopening.store(false, Ordering::Relaxed);
        done.and(built.map(drop))
    }

    /// Checkpoints the state, and lets the log go but for `keep` entries before it and for what
    /// somebody holds.
    pub(crate) async fn checkpoint(
        &self,
        keep: u64,
        holds: &Holds,
        timeout: Duration,
    ) -> Result<LogPos, AdminError> {
        if self.integrity().quarantined().is_some() {
            let why = "this node is in quarantine: its log stays until its state is repaired";
            return Err(AdminError::Refused(why.into()));
        }
        let raft = self.raft();
        let stopping = |_| AdminError::Stopping(self.0.env.node);
        let Some(goal) = position_opt(raft.metrics().borrow_watched().last_applied.as_ref()) else {
            return Err(AdminError::Refused("nothing is applied yet".into()));
        };
        raft.trigger().snapshot().await.map_err(stopping)?;
        let reached = self.0.env.timeout(timeout, async {
            let mut metrics = raft.metrics();
            loop {
                let at = position_opt(metrics.borrow_watched().snapshot.as_ref());
                if at.is_some_and(|at| at.index >= goal.index) {
                    return at;
                }
                if metrics.changed().await.is_err() {
                    return None;
                }
            }
        });
        let at = match reached.await {
            Ok(Some(at)) => at,
            Ok(None) => return Err(AdminError::Stopping(self.0.env.node)),
            Err(_) => return Err(AdminError::TimedOut(timeout)),
        };
        let mut upto = at.index.saturating_sub(keep);
        if let Some(hold) = self.0.sender.hold() {
            upto = upto.min(hold.saturating_sub(1));
        }
        let upto = holds.limit(upto, self.disk().bytes);
        if upto > 0 {
            raft.trigger().purge_log(upto).await.map_err(stopping)?;
        }
        Ok(at)
    }

    /// Ends this node's part and closes its log.
    pub(crate) async fn shutdown(&self) {
        let _ = self.raft().shutdown().await;
        let _ = self.0.log.close().await;
    }
}

/// A change of the members.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    AddLearner(Member),
    Promote(NodeId),
    RemoveVoter(NodeId),
    RemoveLearner(NodeId),
    /// One voter for another, at once.
    Replace {
        old: NodeId,
        new: NodeId,
    },
    /// Another address.
    Relocate(Member),
    /// The second step of a change whose first one is done.
    Finish,
}

fn position_opt(id: Option<&type_config::LogId>) -> Option<LogPos> {
    id.map(position)
}

async fn build(
    env: &Env,
    config: &Config,
    log: &LogStore,
    machine: &RaftMachine,
    acks: &Acks,
    sender: &Arc<Sender>,
) -> Result<Raft, OpenError> {
    let fatal = |error: &dyn fmt::Display| OpenError::Consensus(error.to_string());
    let millis = |d: Duration| d.as_millis() as u64;
    let lease = millis(config.election_timeout_max);
    let settings = openraft::Config {
        cluster_name: config.cluster_name.clone(),
        heartbeat_interval: millis(config.heartbeat_interval),
        election_timeout_min: millis(config.election_timeout_min),
        election_timeout_max: lease,
        // Off until the start-up vote gate opens.
        enable_elect: false,
        enable_pre_vote: Some(common::mutate!("no_pre_vote", true, false)),
        // A restored leader could write other content at a position its followers already hold.
        enable_leader_restore: Some(common::mutate!("leader_restore_enabled", false, true)),
        allow_log_reversion: Some(false),
        quorum_loss_probe_interval: common::mutate!(
            "quorum_loss_never_noticed",
            Some(lease + lease + lease / 2),
            None
        ),
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: 4_096,
        api_batch_linger_ms: 0,
        install_snapshot_timeout: 24 * 3_600 * 1_000,
        ..openraft::Config::default()
    };
    let settings = Arc::new(settings.validate().map_err(|error| fatal(&error))?);
    let network = Network::new(env, config, acks.clone(), sender.clone());
    Raft::build(env.node.0, settings, network, log.clone(), machine.clone())
        .await
        .map_err(|error| fatal(&error))
}

/// Keeps the known leader and the members' addresses up to date, over restarts of the core.
async fn follow(consensus: Consensus) {
    let mut known: BTreeMap<u64, String> = BTreeMap::new();
    let me = consensus.0.env.node;
    loop {
        let raft = consensus.raft();
        let mut metrics = raft.server_metrics();
        loop {
            let (leader, members) = {
                let now = metrics.borrow_watched();
                (now.current_leader.map(NodeId), now.membership_config.clone())
            };
            for (id, node) in members.membership().nodes().filter(|(id, _)| **id != me.0) {
                if known.get(id) != Some(&node.address) {
                    consensus.0.env.transport.learn(NodeId(*id), &node.address);
                    known.insert(*id, node.address.clone());
                }
            }
            consensus.0.leader.send_if_modified(|known| {
                let changed = *known != leader;
                *known = leader;
                changed
            });
            if metrics.changed().await.is_err() {
                break;
            }
        }
        consensus.0.leader.send_replace(None);
        // A core that ends by itself says why; one that panicked can say nothing.
        if raft.metrics().borrow_watched().running_state.is_ok() {
            let why = "the consensus core has panicked; its log holds everything acknowledged, so \
                       start this node again, and report the panic from its output";
            tracing::error!("{why}");
            let _ = consensus.0.died.set(why.to_owned());
            return;
        }
        consensus.0.env.sleep(ENDED).await;
    }
}

/// What consensus knows, as it changes.
pub(crate) struct Changes {
    consensus: Consensus,
    metrics: openraft::type_config::alias::WatchReceiverOf<
        TypeConfig,
        openraft::RaftMetrics<TypeConfig>,
    >,
    acks: watch::Receiver<u64>,
}

impl Changes {
    /// Completes when something has changed since the call before. A core that has ended is looked
    /// for again, since it may have been started anew.
    pub(crate) async fn next(&mut self) {
        let changed = {
            let metrics = std::pin::pin!(self.metrics.changed());
            let acks = std::pin::pin!(self.acks.changed());
            match futures::future::select(metrics, acks).await {
                Either::Left((metrics, _)) => metrics.is_ok(),
                Either::Right(_) => true,
            }
        };
        if !changed {
            self.consensus.0.env.sleep(ENDED).await;
            self.metrics = self.consensus.raft().metrics();
        }
    }
}

/// How soon a core that has ended is looked for again.
const ENDED: Duration = Duration::from_millis(10);

/// Lets this node ask for votes, once no earlier lease can be in force any more.
async fn open_gate(consensus: Consensus) {
    consensus.gate_opens().await;
    // A node that is wanted least only leads when its agent sees that nobody else does; alone, it
    // has to.
    let alone = consensus.other_voters().is_empty();
    consensus.allow_elections(alone || consensus.priority() > 0);
}

/// A callback that is called exactly once: with a result, or as unknown when it is dropped.
struct OnDrop<F: FnOnce(Proposed)> {
    slot: Arc<Slot>,
    call: Option<F>,
}

impl<F: FnOnce(Proposed)> OnDrop<F> {
    fn new(slot: Arc<Slot>, call: F) -> Self {
        Self { slot, call: Some(call) }
    }

    fn call(mut self, proposed: Proposed) {
        if let Some(call) = self.call.take() {
            call(proposed);
        }
    }
}

impl<F: FnOnce(Proposed)> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call(Proposed::Unknown(self.slot.position()));
        }
    }
}
