//! The replica: what committed entries do to this member's state.
//!
//! Everything that an entry changes goes into the engine in one batch: the machine's data, the
//! sessions and their replies, the replicated clock, and the position in the log. So the engine is
//! always at one position, and whatever a crash takes away is applied again from the log.
//!
//! ```text
//! keyspace "leader.meta":  "applied" -> position, clock, members and where they were set, cluster
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use common::clock::Hlc;
use common::codec::{self, CodecError, Format};
use common::ids::{ClientId, ClusterId, LogPos, NodeId};
use common::receipt::Fate;
use common::sometimes;
use common::storage::engine::{Engine, EngineError, Engines, Generation, Keyspace, Read};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::entry::{Ask, CommandReply, Commands, Entry, EntryReply};
use crate::membership::roster::{MEMBERS, Roster};
use crate::quota::Change as Growth;
use crate::quota::{Counter, LIMITS, OverQuota, Quota, USAGE, Usage, encode_quota, read_usage};
use crate::raft::{Judgement, member_ids};
use crate::resolve::{HISTORY, History};
use crate::session::{Judged, Sessions};
use crate::state_machine::{Draft, Stamp, StateMachine};
use crate::watch::feed::{self, FEED, FeedCut, Floor, Gathered};

/// Where the replica's own rows are.
pub(crate) const META: Keyspace = Keyspace("leader.meta");
pub(crate) const APPLIED: &[u8] = b"applied";
const FORMAT: Format = Format { magic: *b"TLap", version: 1 };

/// Keyspaces of this prefix are the replica's own: a machine must not write to them.
pub(crate) const OWN_PREFIX: &str = "leader.";

/// The position of a state, and what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// The last entry it contains.
    pub(crate) at: Option<LogPos>,
    /// The replicated clock.
    pub(crate) clock: Hlc,
    /// The members, encoded, and the entry that set them.
    pub(crate) members: Option<(LogPos, Bytes)>,
    /// The cluster's id, once its first leader has drawn it.
    pub(crate) cluster: Option<ClusterId>,
    /// What seals its tokens and receipts, drawn with the id.
    pub(crate) secret: [u8; 16],
}

/// A committed entry.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    /// Where it stands.
    pub(crate) at: LogPos,
    /// What it says.
    pub(crate) what: What,
}

/// What a committed entry says.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Nothing: a new leader's first entry.
    Blank,
    /// An encoded [`Entry`].
    Body(Bytes),
    /// The members from here on, encoded.
    Members(Bytes),
}

/// What consensus needs of a replica, whatever machine it holds.
#[async_trait]
pub(crate) trait Applier: Send + Sync + fmt::Debug {
    /// The position of the state.
    fn applied(&self) -> Applied;
    /// What the state says of members.
    fn roster(&self) -> Roster;
    /// The position, as it changes.
    fn watch(&self) -> watch::Receiver<Option<LogPos>>;
    /// The last command of a client session that is applied; none if there is no such session.
    fn last_of(&self, client: ClientId) -> Option<u64>;
    /// What has become of entries of one term.
    fn judge(&self, term: u64, indexes: Range<u64>) -> Judgement;
    /// Applies entries in order, in one batch, and returns what came of each.
    fn apply(&self, entries: Vec<Committed>) -> Result<Vec<EntryReply>, EngineError>;
    /// How large the state is, and how large it may become. Never waits for an apply.
    fn counter(&self) -> Counter;
    /// Tries commands on the state as it is now, in order: what they add to it, and the places of those
    /// that would grow it over a quota, besides what is under way. Nothing is changed.
    fn weigh(
        &self,
        commands: &[Bytes],
        under_way: Usage,
        quota: Quota,
    ) -> Result<Weighed, EngineError>;
    /// What was changed, up to now.
    fn feed(&self) -> Result<FeedCut, EngineError>;
    /// Forgets what was changed up to a position, some rows at a time. Whether some are left.
    fn trim_feed(&self, upto: LogPos) -> Result<bool, EngineError>;
    /// Makes all applied so far durable, and returns the position that is.
    async fn checkpoint(&self) -> Result<Applied, EngineError>;
    /// The state as it is now, for a snapshot: pinned, with its keyspaces and position.
    fn pin(&self) -> Result<Pinned, EngineError>;
    /// Makes an empty engine for a snapshot that is being received.
    async fn receive(&self) -> Result<(Generation, Arc<dyn Engine>), EngineError>;
    /// Counts the checks that were applied, as it changes.
    fn checks(&self) -> watch::Receiver<u64>;
    /// The state at the last check, pinned when that was applied; none if it was taken.
    fn take_check(&self) -> Option<Pinned>;
    /// Replaces the state by a received one.
    async fn install(&self, received: Generation, at: Applied) -> Result<(), EngineError>;
}

/// What commands would do to a state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weighed {
    /// What those that pass add.
    pub(crate) growth: Growth,
    /// The places of those that do not, and why the first of them does not.
    pub(crate) refused: Option<(OverQuota, Vec<u16>)>,
}

/// A state that stays as it is while it is read.
#[derive(Clone)]
pub(crate) struct Pinned {
    /// Its data.
    pub(crate) state: Arc<dyn Read>,
    /// The names of its keyspaces.
    pub(crate) keyspaces: Vec<String>,
    /// Its position.
    pub(crate) at: Applied,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("at", &self.at).finish_non_exhaustive()
    }
}

/// The state of a machine on this member.
pub(crate) struct Replica<M> {
    machine: M,
    engines: Arc<dyn Engines>,
    /// Whether it is kept what entries change.
    keeps_changes: bool,
    inner: Mutex<Inner>,
    /// What was counted last, for those who must not wait for an apply.
    counted: Mutex<Counter>,
    /// The position, for those who wait for it.
    progress: watch::Sender<Option<LogPos>>,
    checks: watch::Sender<u64>,
}

struct Inner {
    engine: Arc<dyn Engine>,
    generation: Generation,
    applied: Applied,
    sessions: Sessions,
    history: History,
    roster: Roster,
    /// Where the kept changes begin.
    floor: Floor,
    /// Changes below this index are forgotten. A new start looks again.
    trimmed: u64,
    /// The last cut that a reader took, until something is applied.
    cut: Option<Arc<dyn Read>>,
    /// The state at the last check, until it is taken.
    check: Option<Pinned>,
    counter: Counter,
}

impl<M> fmt::Debug for Replica<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("applied", &*self.progress.borrow()).finish_non_exhaustive()
    }
}

impl<M: StateMachine> Replica<M> {
    /// Opens the replica in the current engine, or in a new one.
    pub(crate) async fn open(
        machine: M,
        engines: Arc<dyn Engines>,
        keeps_changes: bool,
    ) -> Result<Self, EngineError> {
        let (generation, engine) = if let Some(current) = engines.current().await? {
            current
        } else {
            let generation = Generation(1);
            let engine = engines.create(generation).await?;
            engines.switch(generation).await?;
            (generation, engine)
        };
        let inner = Inner::load(&machine, generation, engine)?;
        let progress = watch::Sender::new(inner.applied.at);
        let checks = watch::Sender::new(0);
        let (counted, inner) = (Mutex::new(inner.counter), Mutex::new(inner));
        Ok(Self { machine, engines, keeps_changes, inner, counted, progress, checks })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, counter: Counter) {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = counter;
    }

    /// The machine.
    pub(crate) const fn machine(&self) -> &M {
        &self.machine
    }

    /// The position, as it changes.
    pub(crate) fn progress(&self) -> watch::Receiver<Option<LogPos>> {
        self.progress.subscribe()
    }

    /// A consistent cut of the state as it is now, and its position.
    pub(crate) fn cut(&self) -> Result<(Arc<dyn Read>, Applied), EngineError> {
        let mut inner = self.inner();
        let state = match &inner.cut {
            Some(cut) => cut.clone(),
            None => inner.engine.snapshot()?,
        };
        inner.cut = Some(state.clone());
        Ok((state, inner.applied.clone()))
    }

    /// What has become of an entry, as far as this state can tell.
    pub(crate) fn fate(&self, at: LogPos) -> Option<Fate> {
        let inner = self.inner();
        inner.history.fate(at, inner.applied.at)
    }

    /// What deadlines up to `upto` ask for now, encoded.
    pub(crate) fn due(&self, upto: Hlc, limit: usize) -> Result<Vec<Bytes>, EngineError> {
        let inner = self.inner();
        let commands = self.machine.due(inner.engine.as_ref(), upto, limit)?;
        Ok(commands.iter().map(|c| Bytes::from(codec::encode_body(c))).collect())
    }

    /// How many client sessions there are, and about how many bytes the state takes.
    pub(crate) fn size(&self) -> (usize, u64) {
        let inner = self.inner();
        (inner.sessions.len(), inner.engine.size())
    }

    fn command(
        &self,
        (draft, gathered): (&mut Draft<'_>, &mut Gathered),
        bytes: &Bytes,
        stamp: Stamp,
    ) -> Result<Bytes, EngineError> {
        if bytes.is_empty() {
            return Ok(Bytes::new());
        }
        let command: M::Command = codec::decode_body(bytes).map_err(|error| {
            EngineError::Corrupt(format!(
                "the command at index {} cannot be read by this build: {error}; members must run \
                 compatible versions of the machine",
                stamp.index
            ))
        })?;
        let reply = self.machine.apply(draft, &command, stamp)?;
        let rows = draft.take_rows();
        if !rows.is_empty() {
            gathered.add(stamp.sub, self.machine.changes(draft, &command, &rows)?);
        }
        Ok(codec::encode_body(&reply).into())
    }

    fn commands(
        &self,
        (draft, gathered): (&mut Draft<'_>, &mut Gathered),
        sessions: &mut Sessions,
        commands: &Commands,
        (at, clock): (LogPos, Hlc),
    ) -> Result<EntryReply, EngineError> {
        let (mut answers, fresh) = match sessions.judge(commands) {
            Judged::UnknownClient => return Ok(EntryReply::UnknownClient),
            Judged::Known { repeated, fresh } => (repeated, fresh),
        };
        let mut replies = Vec::new();
        if let Some(fresh) = fresh {
            for (sub, command) in commands.list.iter().enumerate().skip(fresh) {
                let stamp = Stamp { clock, index: at.index, sub: sub as u16 };
                let reply = self.command((draft, gathered), command, stamp)?;
                let sub = sub as u16;
                answers.push(CommandReply::Done { at, sub, stamp: clock, reply: reply.clone() });
                replies.push(reply);
            }
        } else if answers.len() < commands.list.len() {
            sometimes!("session-gap");
        }
        answers.resize(commands.list.len(), CommandReply::Gap);
        sessions.applied(draft, commands, fresh.unwrap_or(0), (at, replies), clock);
        Ok(EntryReply::Commands(answers))
    }

    /// Applies entries in one batch.
    fn apply_batch(
        &self,
        inner: &mut Inner,
        entries: Vec<Decoded>,
    ) -> Result<Vec<EntryReply>, EngineError> {
        let engine = inner.engine.clone();
        let mut draft = Draft::new(engine.as_ref());
        if self.keeps_changes {
            draft.note_rows();
        }
        inner.floor.write(&mut draft, self.keeps_changes);
        let (mut applied, mut counter) = (inner.applied.clone(), inner.counter);
        let mut replies = Vec::with_capacity(entries.len());
        for Decoded { at, what } in entries {
            // The clock moves with every entry, so that a position has one time everywhere.
            let reply = match what {
                Said::Blank => EntryReply::Nothing,
                Said::Members(members) => {
                    inner.roster.members(&mut draft, &member_ids(&members)?);
                    applied.members = Some((at, members));
                    EntryReply::Nothing
                }
                Said::Entry(entry) => {
                    applied.clock = applied.clock.next().max(entry.stamp);
                    if let (Ask::Found { cluster, secret }, None) = (&entry.ask, applied.cluster) {
                        applied.cluster = Some(*cluster);
                        applied.secret = *secret;
                    }
                    if let Ask::Quota(quota) = entry.ask {
                        counter.quota = Some(quota);
                        draft.put(USAGE, LIMITS, encode_quota(quota));
                    }
                    inner.members(&mut draft, &entry.ask, &applied)?;
                    let when = (at, applied.clock);
                    let mut gathered = Gathered::default();
                    let sinks = (&mut draft, &mut gathered);
                    let reply = self.body(sinks, &mut inner.sessions, &entry, when)?;
                    gathered.write(&mut draft, at, applied.clock);
                    reply
                }
            };
            inner.history.note(&mut draft, at);
            applied.at = Some(at);
            replies.push(reply);
        }
        guard(&BTreeSet::from([crate::session::CLIENTS, HISTORY, FEED, USAGE, MEMBERS]), &draft)?;
        draft.put(META, APPLIED, applied.encode());
        let growth = draft.growth(&|keyspace| self.machine.holds_keys(keyspace))?;
        let (row, usage) = counter.add(growth);
        draft.put(USAGE, row, usage);
        inner.cut = None;
        engine.write(draft.into_batch())?;
        inner.floor.saved = self.keeps_changes;
        (inner.applied, inner.counter) = (applied, counter);
        self.count(counter);
        self.progress.send_replace(inner.applied.at);
        Ok(replies)
    }

    fn body(
        &self,
        (draft, gathered): (&mut Draft<'_>, &mut Gathered),
        sessions: &mut Sessions,
        entry: &Entry,
        (at, clock): (LogPos, Hlc),
    ) -> Result<EntryReply, EngineError> {
        match &entry.ask {
            Ask::Found { .. } | Ask::Describe { .. } | Ask::Replace(_) => Ok(EntryReply::Nothing),
            Ask::Check => Ok(EntryReply::Checked(at)),
            Ask::Quota(_) => Ok(EntryReply::Limited),
            Ask::Open => {
                let client = ClientId(at.index);
                sessions.open(draft, client, clock);
                Ok(EntryReply::Opened(client))
            }
            Ask::Commands(commands) => {
                self.commands((draft, gathered), sessions, commands, (at, clock))
            }
            Ask::Due(commands) => {
                for (sub, command) in commands.iter().enumerate() {
                    let stamp = Stamp { clock, index: at.index, sub: sub as u16 };
                    self.command((draft, gathered), command, stamp)?;
                }
                Ok(EntryReply::Nothing)
            }
        }
    }
}

impl Inner {
    /// Called under the lock, so that the names are those of this very state.
    fn pin(&self) -> Result<Pinned, EngineError> {
        let (state, keyspaces) = (self.engine.snapshot()?, self.engine.keyspaces()?);
        Ok(Pinned { state, keyspaces, at: self.applied.clone() })
    }

    /// What an entry says of members.
    fn members(
        &mut self,
        draft: &mut Draft<'_>,
        ask: &Ask,
        applied: &Applied,
    ) -> Result<(), EngineError> {
        match ask {
            Ask::Describe { member, attributes } => {
                let members: BTreeSet<NodeId> = match &applied.members {
                    Some((_, members)) => member_ids(members)?,
                    None => BTreeSet::new(),
                };
                self.roster.describe(draft, &members, *member, attributes);
            }
            Ask::Replace(replacing) => self.roster.replace(draft, replacing.as_ref()),
            Ask::Open
            | Ask::Commands(_)
            | Ask::Due(_)
            | Ask::Found { .. }
            | Ask::Check
            | Ask::Quota(_) => {}
        }
        Ok(())
    }

    fn load<M: StateMachine>(
        machine: &M,
        generation: Generation,
        engine: Arc<dyn Engine>,
    ) -> Result<Self, EngineError> {
        let applied = read_applied(engine.as_ref())?;
        let sessions = Sessions::load(engine.as_ref())?;
        let history = History::load(engine.as_ref())?;
        let roster = Roster::load(engine.as_ref(), &applied)?;
        let floor = Floor::load(engine.as_ref(), applied.at)?;
        let holds_keys = |keyspace| machine.holds_keys(keyspace);
        let counter = Counter::load(engine.as_ref(), &engine.keyspaces()?, &holds_keys)?;
        let (trimmed, cut, check) = (0, None, None);
        Ok(Self {
            engine,
            generation,
            applied,
            sessions,
            history,
            roster,
            floor,
            trimmed,
            cut,
            check,
            counter,
        })
    }
}

/// A committed entry, read.
struct Decoded {
    at: LogPos,
    what: Said,
}

/// What it says.
enum Said {
    Blank,
    Entry(Entry),
    Members(Bytes),
}

impl TryFrom<Committed> for Decoded {
    type Error = EngineError;

    fn try_from(Committed { at, what }: Committed) -> Result<Self, EngineError> {
        let what =
            match what {
                What::Blank => Said::Blank,
                What::Members(members) => Said::Members(members),
                What::Body(body) => Said::Entry(Entry::decode(&body).map_err(|error| {
                    EngineError::Corrupt(format!("the log entry {at:?}: {error}"))
                })?),
            };
        Ok(Self { at, what })
    }
}

/// The position that a state says it is at.
pub(crate) fn read_applied(state: &dyn Read) -> Result<Applied, EngineError> {
    match state.get(META, APPLIED)? {
        None => Ok(Applied::default()),
        Some(bytes) => Applied::decode(&bytes)
            .map_err(|error| EngineError::Corrupt(format!("the applied position: {error}"))),
    }
}

/// Refuses a machine's change to the replica's own rows.
fn guard(own: &BTreeSet<Keyspace>, draft: &Draft<'_>) -> Result<(), EngineError> {
    for keyspace in draft.keyspaces() {
        if keyspace.0.starts_with(OWN_PREFIX) && !own.contains(&keyspace) {
            return Err(EngineError::Refused(format!(
                "the machine wrote to the keyspace {}, but names that begin with {OWN_PREFIX} are \
                 the replica's own",
                keyspace.0
            )));
        }
    }
    Ok(())
}

#[async_trait]
impl<M: StateMachine> Applier for Replica<M> {
    fn applied(&self) -> Applied {
        self.inner().applied.clone()
    }

    fn roster(&self) -> Roster {
        self.inner().roster.clone()
    }

    fn watch(&self) -> watch::Receiver<Option<LogPos>> {
        self.progress()
    }

    fn last_of(&self, client: ClientId) -> Option<u64> {
        self.inner().sessions.last(client)
    }

    fn judge(&self, term: u64, indexes: Range<u64>) -> Judgement {
        let inner = self.inner();
        inner.history.judge(term, indexes, inner.applied.at)
    }

    fn apply(&self, entries: Vec<Committed>) -> Result<Vec<EntryReply>, EngineError> {
        let mut inner = self.inner();
        let (mut replies, mut batch) = (Vec::with_capacity(entries.len()), Vec::new());
        for entry in entries {
            let entry = Decoded::try_from(entry)?;
            let check = matches!(&entry.what, Said::Entry(Entry { ask: Ask::Check, .. }));
            batch.push(entry);
            if check {
                // The batch ends here, so that the state can be pinned at exactly this position.
                replies.extend(self.apply_batch(&mut inner, std::mem::take(&mut batch))?);
                inner.check = Some(inner.pin()?);
                self.checks.send_modify(|count| *count += 1);
            }
        }
        if !batch.is_empty() {
            replies.extend(self.apply_batch(&mut inner, batch)?);
        }
        Ok(replies)
    }

    fn counter(&self) -> Counter {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn weigh(
        &self,
        commands: &[Bytes],
        under_way: Usage,
        quota: Quota,
    ) -> Result<Weighed, EngineError> {
        let (state, applied) = self.cut()?;
        let usage = read_usage(state.as_ref())?.unwrap_or_else(|| self.inner().counter.usage);
        let used = usage.and(under_way);
        let holds_keys = |keyspace| self.machine.holds_keys(keyspace);
        let (mut weighed, mut tried) = (Weighed::default(), Draft::new(state.as_ref()));
        for (place, bytes) in commands.iter().enumerate() {
            // One that cannot be read is refused where it is applied.
            let Ok(command) = codec::decode_body::<M::Command>(bytes) else { continue };
            let sub = place as u16;
            let stamp = Stamp { clock: applied.clock.next(), index: applied.index() + 1, sub };
            let mut draft = Draft::new(&tried);
            self.machine.apply(&mut draft, &command, stamp)?;
            let growth = draft.growth(&holds_keys)?;
            let over = quota.refuses(used.with(weighed.growth), growth);
            match over {
                Some(why) if !self.machine.passes_quota(&command) => {
                    weighed.refused.get_or_insert((why, Vec::new())).1.push(sub);
                }
                _ => {
                    weighed.growth = weighed.growth.and(growth);
                    let batch = draft.into_batch();
                    tried.take_over(batch);
                }
            }
        }
        Ok(weighed)
    }

    fn feed(&self) -> Result<FeedCut, EngineError> {
        let (state, applied) = self.cut()?;
        // A floor that was raised since only tells of a gap that this cut does not have yet.
        Ok(FeedCut { state, applied: applied.at, floor: self.inner().floor.at })
    }

    fn trim_feed(&self, upto: LogPos) -> Result<bool, EngineError> {
        let mut inner = self.inner();
        if inner.trimmed > upto.index {
            return Ok(false);
        }
        if inner.floor.saved && inner.floor.at < Some(upto) {
            // Before any row goes, so that no crash leaves a gap that nobody tells.
            inner.engine.write(feed::raise(upto))?;
            inner.floor.at = Some(upto);
        }
        let (batch, next) = feed::trim(inner.engine.as_ref(), inner.trimmed, upto)?;
        if !batch.is_empty() {
            inner.engine.write(batch)?;
            inner.cut = None;
        }
        inner.trimmed = next;
        Ok(next <= upto.index)
    }

    async fn checkpoint(&self) -> Result<Applied, EngineError> {
        let (engine, applied) = {
            let inner = self.inner();
            (inner.engine.clone(), inner.applied.clone())
        };
        engine.checkpoint().await?;
        Ok(applied)
    }

    fn pin(&self) -> Result<Pinned, EngineError> {
        self.inner().pin()
    }

    fn checks(&self) -> watch::Receiver<u64> {
        self.checks.subscribe()
    }

    fn take_check(&self) -> Option<Pinned> {
        self.inner().check.take()
    }

    async fn receive(&self) -> Result<(Generation, Arc<dyn Engine>), EngineError> {
        let generation = Generation(self.inner().generation.0 + 1);
        Ok((generation, self.engines.create(generation).await?))
    }

    async fn install(&self, received: Generation, at: Applied) -> Result<(), EngineError> {
        self.engines.switch(received).await?;
        let current = self.engines.current().await?;
        let Some((generation, engine)) = current.filter(|(g, _)| *g == received) else {
            return Err(EngineError::Io("the received engine is not the current one".into()));
        };
        let new = Inner::load(&self.machine, generation, engine)?;
        if new.applied != at {
            return Err(EngineError::Corrupt(format!(
                "the received snapshot says it is at {:?}, its content at {:?}",
                at.at, new.applied.at
            )));
        }
        let mut inner = self.inner();
        *inner = new;
        self.count(inner.counter);
        self.progress.send_replace(inner.applied.at);
        Ok(())
    }
}

impl Applied {
    /// The value of its row.
    pub(crate) fn encode(&self) -> Bytes {
        codec::encode(FORMAT, self)
    }

    /// Reads what [`Applied::encode`] made.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(FORMAT, bytes, 1 << 20)
    }

    /// The index of the last entry it contains, 0 before the first.
    pub(crate) fn index(&self) -> u64 {
        self.at.map_or(0, |at| at.index)
    }
}
