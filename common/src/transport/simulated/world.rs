//! Everything that is under way, and what becomes of it: plain state, driven by the pump.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::link::{Link, Rate};
use super::{Addressing, SimNetworkConfig};
use crate::env::Rng;
use crate::ids::{Incarnation, NodeId};
use crate::transport::frame::{HEADER, Kind};
use crate::transport::{CallError, Class};

pub(super) type Answer = Result<Bytes, CallError>;

/// Whether the peers of a node that goes learn of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Its machine closes its connections.
    Announced,
    /// Nothing answers any more.
    Silent,
}

/// One stream of messages in travelling order. Answers travel apart from messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct StreamKey {
    from: NodeId,
    to: NodeId,
    class: Class,
    answers: bool,
}

#[derive(Debug, Default)]
struct Stream {
    /// At the sender, behind what occupies a slow link.
    queue: VecDeque<(u64, Message)>,
    under_way: BTreeMap<u64, Message>,
    /// Those of `under_way` that are due and that a clog holds back, in order.
    held: VecDeque<u64>,
    last_arrival: Duration,
    busy_until: Duration,
}

impl Stream {
    fn waiting(&self) -> usize {
        self.queue.len() + self.under_way.len()
    }

    fn lose(&mut self, id: u64) {
        self.under_way.remove(&id);
        self.held.retain(|held| *held != id);
    }
}

/// A message to be sent.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) class: Class,
    pub(super) kind: Kind,
    pub(super) call: u64,
    pub(super) body: Bytes,
    /// The receiver's generation when it was sent, if there was one.
    pub(super) to_generation: Option<u64>,
}

impl Message {
    fn stream(&self) -> StreamKey {
        let answers = matches!(self.kind, Kind::Reply | Kind::Refusal);
        StreamKey { from: self.from, to: self.to, class: self.class, answers }
    }
}

enum Event {
    Arrives(StreamKey),
    /// A slow link is free for the next message.
    Departs(StreamKey),
    /// A clog may have ended.
    Unclogs(NodeId, NodeId),
    /// `to` learns that its calls to `from` have ended like this.
    Ends {
        from: NodeId,
        to: NodeId,
        calls: Vec<(u64, CallError)>,
    },
}

struct Endpoint {
    generation: u64,
    incarnation: Incarnation,
    served: Option<mpsc::UnboundedSender<Message>>,
    known: BTreeSet<NodeId>,
    forgotten: BTreeSet<NodeId>,
}

struct OpenCall {
    caller: NodeId,
    to: NodeId,
    class: Class,
    answer: oneshot::Sender<Answer>,
}

/// What happened to a message that was due.
pub(super) enum Arrival {
    /// It was handed over, or answered a call.
    Delivered(Message),
    /// It was lost, for this reason.
    Lost(Message, &'static str),
    /// Nobody serves there yet: this refusal goes back.
    Unserved(Message),
    /// Something else was due.
    Nothing,
}

/// The nodes, the links between them and the messages under way.
pub(super) struct World {
    rng: Arc<dyn Rng>,
    config: SimNetworkConfig,
    endpoints: BTreeMap<NodeId, Endpoint>,
    /// Nodes that went without a word: connecting to them is not even refused.
    silent: BTreeSet<NodeId>,
    pub(super) isolated: BTreeSet<NodeId>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    streams: BTreeMap<StreamKey, Stream>,
    due: BTreeMap<(Duration, u64), Event>,
    calls: BTreeMap<u64, OpenCall>,
    /// How many of them each caller has open per peer and class.
    open: BTreeMap<(NodeId, NodeId, Class), usize>,
    next_id: u64,
    next_generation: u64,
}

impl World {
    pub(super) fn new(rng: Arc<dyn Rng>, config: SimNetworkConfig) -> Self {
        Self {
            rng,
            config,
            endpoints: BTreeMap::new(),
            silent: BTreeSet::new(),
            isolated: BTreeSet::new(),
            links: BTreeMap::new(),
            streams: BTreeMap::new(),
            due: BTreeMap::new(),
            calls: BTreeMap::new(),
            open: BTreeMap::new(),
            next_id: 1,
            next_generation: 1,
        }
    }

    pub(super) fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        let rng = &self.rng;
        self.links
            .entry((from, to))
            .or_insert_with(|| Link::new(rng.stream(&format!("link {from} {to}"))))
    }

    pub(super) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.isolated.contains(&from)
            || self.isolated.contains(&to)
            || self.links.get(&(from, to)).is_some_and(|link| link.cut)
    }

    pub(super) fn heal_all(&mut self, now: Duration) {
        self.isolated.clear();
        self.links.values_mut().for_each(Link::heal);
        let pairs: Vec<_> = self.links.keys().copied().collect();
        for (from, to) in pairs {
            self.flush(from, to, now);
            self.unclog(from, to, now);
        }
    }

    /// The streams of a directed pair.
    fn between(&self, from: NodeId, to: NodeId) -> Vec<StreamKey> {
        let keys = self.streams.keys().filter(|key| key.from == from && key.to == to);
        keys.copied().collect()
    }

    pub(super) fn set_rate(&mut self, from: NodeId, to: NodeId, rate: Option<Rate>, now: Duration) {
        self.link(from, to).rate = rate;
        if rate.is_none() {
            self.flush(from, to, now);
        }
    }

    /// What waits for a slow link leaves at once.
    fn flush(&mut self, from: NodeId, to: NodeId, now: Duration) {
        for key in self.between(from, to) {
            while let Some((id, message)) =
                self.streams.get_mut(&key).and_then(|stream| stream.queue.pop_front())
            {
                self.depart(key, id, message, now);
            }
        }
    }

    pub(super) fn clog(&mut self, from: NodeId, to: NodeId, until: Duration, now: Duration) {
        self.link(from, to).clogged_until = until;
        if until <= now {
            self.unclog(from, to, now);
        }
    }

    /// What a clog held back arrives.
    fn unclog(&mut self, from: NodeId, to: NodeId, now: Duration) {
        if self.link(from, to).clogged_until > now {
            return;
        }
        for key in self.between(from, to) {
            let held = self.streams.get_mut(&key).map(|stream| std::mem::take(&mut stream.held));
            // Ids keep the order of those that waited together.
            for id in held.into_iter().flatten() {
                self.due.insert((now, id), Event::Arrives(key));
            }
        }
    }

    pub(super) fn under_way(&self) -> usize {
        self.streams.values().map(Stream::waiting).sum()
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn attach(&mut self, node: NodeId, incarnation: Incarnation) -> u64 {
        let generation = self.next_generation;
        self.next_generation += 1;
        self.silent.remove(&node);
        let endpoint = Endpoint {
            generation,
            incarnation,
            served: None,
            known: BTreeSet::new(),
            forgotten: BTreeSet::new(),
        };
        self.endpoints.insert(node, endpoint);
        generation
    }

    fn endpoint(&mut self, node: NodeId, generation: u64) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(&node).filter(|e| e.generation == generation)
    }

    pub(super) fn is_alive(&self, node: NodeId, generation: u64) -> bool {
        self.endpoints.get(&node).is_some_and(|e| e.generation == generation)
    }

    pub(super) fn serve(
        &mut self,
        node: NodeId,
        generation: u64,
        served: mpsc::UnboundedSender<Message>,
    ) {
        if let Some(endpoint) = self.endpoint(node, generation) {
            endpoint.served = Some(served);
        }
    }

    pub(super) fn learn(&mut self, node: NodeId, generation: u64, peer: NodeId) {
        if let Some(endpoint) = self.endpoint(node, generation) {
            endpoint.known.insert(peer);
            endpoint.forgotten.remove(&peer);
        }
    }

    pub(super) fn forget(&mut self, node: NodeId, generation: u64, peer: NodeId, now: Duration) {
        if let Some(endpoint) = self.endpoint(node, generation) {
            endpoint.known.remove(&peer);
            endpoint.forgotten.insert(peer);
            self.reset(node, peer, now);
        }
    }

    /// Whether `node` may send this, and as which incarnation.
    pub(super) fn admit(
        &self,
        node: NodeId,
        generation: u64,
        to: NodeId,
        class: Class,
        body: &Bytes,
    ) -> Result<Incarnation, CallError> {
        let endpoint = self.endpoints.get(&node).filter(|e| e.generation == generation);
        let endpoint = endpoint.ok_or(CallError::Closed)?;
        let unreachable = |why: &str| Err(CallError::Unreachable(to, why.to_owned()));
        if to == node {
            return unreachable("it is this node");
        }
        let unknown = match self.config.addressing {
            Addressing::ById => endpoint.forgotten.contains(&to),
            Addressing::Learned => !endpoint.known.contains(&to),
        };
        if unknown {
            return unreachable("no known address");
        }
        let (size, limit) = (body.len(), self.config.frame_limit);
        if size > limit {
            return Err(CallError::TooLarge { size, limit });
        }
        let key = StreamKey { from: node, to, class, answers: false };
        let waiting = self.streams.get(&key).map_or(0, Stream::waiting);
        let open = self.open.get(&(node, to, class)).copied().unwrap_or_default();
        if waiting.max(open) >= self.config.queue_messages {
            return Err(CallError::Overloaded(to));
        }
        Ok(endpoint.incarnation)
    }

    pub(super) fn incarnation(&self, node: NodeId, generation: u64) -> Option<Incarnation> {
        let endpoint = self.endpoints.get(&node)?;
        (endpoint.generation == generation).then_some(endpoint.incarnation)
    }

    pub(super) fn generation(&self, node: NodeId) -> Option<u64> {
        self.endpoints.get(&node).map(|e| e.generation)
    }

    pub(super) fn open_call(
        &mut self,
        caller: NodeId,
        to: NodeId,
        class: Class,
        answer: oneshot::Sender<Answer>,
    ) -> u64 {
        let id = self.id();
        self.calls.insert(id, OpenCall { caller, to, class, answer });
        *self.open.entry((caller, to, class)).or_default() += 1;
        id
    }

    pub(super) fn close_call(&mut self, id: u64) {
        drop(self.take_call(id));
    }

    fn take_call(&mut self, id: u64) -> Option<OpenCall> {
        let call = self.calls.remove(&id)?;
        if let Some(open) = self.open.get_mut(&(call.caller, call.to, call.class)) {
            *open -= 1;
        }
        Some(call)
    }

    /// Largest body, of a message and of an answer.
    pub(super) fn frame_limit(&self) -> usize {
        self.config.frame_limit
    }

    /// Puts a message on its way.
    pub(super) fn send(&mut self, message: Message, now: Duration) {
        let key = message.stream();
        let link = self.link(message.from, message.to);
        let unruly = link.unruly;
        let lost = link.happens(unruly.lost);
        let copies = 1 + usize::from(link.happens(unruly.doubled));
        if lost {
            return;
        }
        for _ in 0..copies {
            let id = self.id();
            let stream = self.streams.entry(key).or_default();
            if stream.busy_until > now || !stream.queue.is_empty() {
                if stream.queue.is_empty() {
                    let free = (stream.busy_until, id);
                    self.due.insert(free, Event::Departs(key));
                }
                stream.queue.push_back((id, message.clone()));
            } else {
                self.depart(key, id, message.clone(), now);
            }
        }
    }

    /// A message leaves, and occupies its link for a while if that is slow.
    fn depart(&mut self, key: StreamKey, id: u64, message: Message, now: Duration) {
        let default = self.config.latency;
        let size = HEADER + message.body.len();
        let link = self.link(message.from, message.to);
        let reordered = link.happens(link.unruly.reordered);
        let transmission = link.transmission(size);
        let latency = link.draw_latency(default);
        let stream = self.streams.entry(key).or_default();
        stream.busy_until = now + transmission;
        let mut arrival = stream.busy_until + latency;
        if !reordered {
            arrival = arrival.max(stream.last_arrival);
            stream.last_arrival = arrival;
        }
        stream.under_way.insert(id, message);
        self.due.insert((arrival, id), Event::Arrives(key));
    }

    /// A slow link is free: the next message leaves, unless its caller has given up.
    fn depart_next(&mut self, key: StreamKey, now: Duration) {
        loop {
            let Some(stream) = self.streams.get_mut(&key) else { return };
            if stream.busy_until > now {
                break;
            }
            let Some((id, message)) = stream.queue.pop_front() else { return };
            if message.kind == Kind::Call && !self.calls.contains_key(&message.call) {
                continue;
            }
            self.depart(key, id, message, now);
        }
        let next = self.streams.get(&key).and_then(|s| Some((s.busy_until, s.queue.front()?.0)));
        if let Some(next) = next {
            self.due.insert(next, Event::Departs(key));
        }
    }

    /// When the next event is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets the next event that is due by `now` happen.
    pub(super) fn step(&mut self, now: Duration) -> Option<Arrival> {
        let entry = self.due.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let ((_, id), event) = entry.remove_entry();
        Some(match event {
            Event::Arrives(key) => self.arrive(key, id, now),
            Event::Departs(key) => {
                self.depart_next(key, now);
                Arrival::Nothing
            }
            Event::Unclogs(from, to) => {
                self.unclog(from, to, now);
                Arrival::Nothing
            }
            Event::Ends { from, to, calls } => {
                if !self.is_cut(from, to) {
                    for (id, error) in calls {
                        self.answer(id, Err(error));
                    }
                }
                Arrival::Nothing
            }
        })
    }

    fn arrive(&mut self, key: StreamKey, id: u64, now: Duration) -> Arrival {
        let clogged_until = self.links.get(&(key.from, key.to)).map_or(now, |l| l.clogged_until);
        let cut = self.is_cut(key.from, key.to);
        let Some(stream) = self.streams.get_mut(&key) else { return Arrival::Nothing };
        if !stream.under_way.contains_key(&id) {
            return Arrival::Nothing;
        }
        if clogged_until > now {
            stream.held.push_back(id);
            let at = (clogged_until, self.id());
            self.due.insert(at, Event::Unclogs(key.from, key.to));
            return Arrival::Nothing;
        }
        let Some(message) = stream.under_way.remove(&id) else { return Arrival::Nothing };
        if cut {
            self.lose_suffix(key, 0, now);
            return Arrival::Lost(message, "cut");
        }
        let present = self.endpoints.get(&message.to);
        let meant = match (present, message.to_generation) {
            (Some(there), Some(generation)) => there.generation == generation,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !meant {
            self.refuse(&message, now);
            return Arrival::Lost(message, "nobody there");
        }
        match message.kind {
            Kind::Reply => {
                self.answer(message.call, Ok(message.body.clone()));
            }
            Kind::Refusal => {
                let why = String::from_utf8_lossy(&message.body).into_owned();
                self.answer(message.call, Err(CallError::Refused(message.from, why)));
            }
            _ => {
                let served = present.and_then(|there| there.served.clone());
                if served.is_none_or(|served| served.send(message.clone()).is_err()) {
                    return Arrival::Unserved(message);
                }
            }
        }
        Arrival::Delivered(message)
    }

    fn answer(&mut self, id: u64, answer: Answer) {
        if let Some(call) = self.take_call(id) {
            // The caller may have gone in this moment.
            let _ = call.answer.send(answer);
        }
    }

    /// Nobody, or another than meant, is where a message arrives: its sender is told, unless the
    /// machine is dead.
    fn refuse(&mut self, message: &Message, now: Duration) {
        if message.kind != Kind::Call || self.silent.contains(&message.to) {
            return;
        }
        let error = match message.to_generation {
            None => CallError::Unreachable(message.to, "connection refused".to_owned()),
            Some(_) => CallError::Broken(message.to),
        };
        self.tell(message.to, message.from, message.class, vec![(message.call, error)], now);
    }

    /// Lets `to` learn how calls to `from` ended, after all answers that are under way.
    fn tell(
        &mut self,
        from: NodeId,
        to: NodeId,
        class: Class,
        calls: Vec<(u64, CallError)>,
        now: Duration,
    ) {
        let default = self.config.latency;
        let latency = self.link(from, to).draw_latency(default);
        let key = StreamKey { from, to, class, answers: true };
        let last = self.streams.get(&key).map_or(now, |stream| stream.last_arrival);
        let id = self.id();
        self.due.insert((last.max(now + latency), id), Event::Ends { from, to, calls });
    }

    /// Loses all of a stream that is under way but the first `keep`.
    fn lose_suffix(&mut self, key: StreamKey, keep: usize, now: Duration) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let lost: Vec<u64> = stream.under_way.keys().copied().skip(keep).collect();
        let Some(link) = self.links.get(&(key.from, key.to)) else {
            for id in lost {
                stream.lose(id);
            }
            return;
        };
        for id in lost {
            if link.happens(link.unruly.stale) {
                stream.held.retain(|held| *held != id);
                let late = link.draw_latency(self.config.latency) * 10;
                self.due.insert((now + late, id), Event::Arrives(key));
            } else {
                stream.lose(id);
            }
        }
    }

    fn lose_some(&mut self, key: StreamKey, now: Duration) {
        let count = self.streams.get(&key).map_or(0, |stream| stream.under_way.len());
        if count > 0 {
            let keep = self.link(key.from, key.to).below(count as u64 + 1) as usize;
            self.lose_suffix(key, keep, now);
        }
    }

    pub(super) fn reset(&mut self, a: NodeId, b: NodeId, now: Duration) {
        let between =
            |key: &&StreamKey| (key.from == a && key.to == b) || (key.from == b && key.to == a);
        let keys: Vec<_> = self.streams.keys().filter(between).copied().collect();
        for key in keys {
            self.lose_some(key, now);
        }
        for (caller, to) in [(a, b), (b, a)] {
            self.break_calls(caller, to, now);
        }
    }

    /// All open calls of `caller` to `to` end, when the news has arrived.
    fn break_calls(&mut self, caller: NodeId, to: NodeId, now: Duration) {
        let open = self.calls.iter().filter(|(_, call)| call.caller == caller && call.to == to);
        let broken: Vec<_> = open.map(|(id, _)| (*id, CallError::Broken(to))).collect();
        if !broken.is_empty() {
            let last = |class| StreamKey { from: to, to: caller, class, answers: true };
            let latest = Class::ALL
                .into_iter()
                .max_by_key(|class| self.streams.get(&last(*class)).map(|s| s.last_arrival));
            self.tell(to, caller, latest.unwrap_or(Class::Data), broken, now);
        }
    }

    pub(super) fn detach(&mut self, node: NodeId, now: Duration, farewell: Farewell) {
        if self.endpoints.remove(&node).is_none() {
            return;
        }
        let sent: Vec<_> = self.streams.keys().filter(|key| key.from == node).copied().collect();
        for key in sent {
            self.lose_some(key, now);
            if let Some(stream) = self.streams.get_mut(&key) {
                stream.queue.clear();
            }
        }
        self.calls.retain(|_, call| call.caller != node);
        self.open.retain(|(caller, ..), _| *caller != node);
        match farewell {
            Farewell::Silent => {
                self.silent.insert(node);
            }
            Farewell::Announced => {
                let callers: BTreeSet<_> =
                    self.calls.values().filter(|c| c.to == node).map(|c| c.caller).collect();
                for caller in callers {
                    self.break_calls(caller, node, now);
                }
            }
        }
    }
}
