//! A lane: the messages of one class for one peer, waiting to leave or for their answers.
//!
//! Each lane has a connection of its own. A single connection with a priority writer would still
//! have Control wait behind the bulk that the kernel's buffers already hold; with one connection
//! per class nothing is shared but the network card, no message needs to be cut into pieces, and a
//! lost packet holds up its own class only. The price is up to three sockets per direction, opened
//! when first used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::{BoxFuture, Either, select};
use tokio::sync::{Notify, oneshot};

use super::LinkLimits;
use super::wire::{Batch, Outgoing, Queue, Source, lock};
use crate::env::{Clock, Mono};
use crate::ids::NodeId;
use crate::transport::frame::{Head, Kind};
use crate::transport::{CallError, Class};

type Answer = Result<Bytes, CallError>;

/// The queue and the open calls of one class to one peer.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) peer: NodeId,
    pub(super) class: Class,
    limits: LinkLimits,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    flights: BTreeMap<u64, Flight>,
    next_call: u64,
    /// The smaller of both ends' frame limits, as far as known.
    frame_limit: usize,
    connected: bool,
    last_error: String,
    /// Set when nothing more is taken in.
    ended: Option<CallError>,
}

#[derive(Debug)]
struct Flight {
    answer: oneshot::Sender<Answer>,
    sent: bool,
}

impl Lane {
    pub(super) fn new(peer: NodeId, class: Class, limits: LinkLimits) -> Self {
        let state = State {
            queue: Queue::default(),
            flights: BTreeMap::new(),
            next_call: 1,
            frame_limit: limits.frame,
            connected: false,
            last_error: "no connection yet".to_owned(),
            ended: None,
        };
        Self { peer, class, limits, state: Mutex::new(state), wake: Notify::new() }
    }

    fn admit(&self, state: &State, body: &Bytes) -> Result<(), CallError> {
        if let Some(why) = &state.ended {
            return Err(why.clone());
        }
        let (size, limit) = (body.len(), state.frame_limit);
        if size > limit {
            return Err(CallError::TooLarge { size, limit });
        }
        let full = state.queue.len() >= self.limits.queue_calls
            || state.flights.len() >= self.limits.queue_calls
            || state.queue.bytes() + size > self.limits.queue_bytes;
        if full && state.queue.len() + state.flights.len() > 0 {
            return Err(CallError::Overloaded(self.peer));
        }
        Ok(())
    }

    /// Queues a message without an answer.
    pub(super) fn cast(&self, body: Bytes) -> Result<(), CallError> {
        let mut state = lock(&self.state);
        self.admit(&state, &body)?;
        state.queue.push(Outgoing::new(Head::new(Kind::Cast, self.class, 0), body));
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Queues a call; the future waits for its answer.
    pub(super) fn call(
        self: &Arc<Self>,
        body: Bytes,
        deadline: Mono,
        clock: Arc<dyn Clock>,
    ) -> Result<BoxFuture<'static, Answer>, CallError> {
        let (sender, answer) = oneshot::channel();
        let mut state = lock(&self.state);
        self.admit(&state, &body)?;
        let id = state.next_call;
        state.next_call += 1;
        state.queue.push(Outgoing::new(Head::new(Kind::Call, self.class, id), body));
        state.flights.insert(id, Flight { answer: sender, sent: false });
        drop(state);
        self.wake.notify_one();
        let open = Open { lane: self.clone(), id };
        Ok(Box::pin(async move {
            let peer = open.lane.peer;
            match select(answer, clock.sleep_until(deadline)).await {
                Either::Left((answer, _)) => answer.unwrap_or(Err(CallError::Broken(peer))),
                Either::Right(_) => Err(open.expire()),
            }
        }))
    }

    /// Queues a ping with this time on it.
    pub(super) fn ping(&self, at: u64) {
        self.push_small(Kind::Ping, at);
    }

    /// Queues the answer to a ping.
    pub(super) fn pong(&self, at: u64) {
        self.push_small(Kind::Pong, at);
    }

    fn push_small(&self, kind: Kind, call: u64) {
        let mut state = lock(&self.state);
        if state.queue.bytes() <= self.limits.queue_bytes {
            state.queue.push(Outgoing::new(Head::new(kind, self.class, call), Bytes::new()));
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Hands an answer to its call. An answer to a call that has ended is dropped.
    pub(super) fn answer(&self, id: u64, answer: Answer) {
        let flight = lock(&self.state).flights.remove(&id);
        if let Some(flight) = flight {
            // The caller may have gone in this moment.
            let _ = flight.answer.send(answer);
        }
    }

    /// Waits until there is something to send.
    pub(super) async fn wait_for_work(&self) {
        while lock(&self.state).queue.len() == 0 {
            self.wake.notified().await;
        }
    }

    /// A connection is there, whose other end reads bodies up to `frame_limit`.
    pub(super) fn connected(&self, frame_limit: usize) {
        let mut state = lock(&self.state);
        state.connected = true;
        state.frame_limit = frame_limit.min(self.limits.frame);
    }

    /// The connection is gone: calls that left end, those still queued wait for the next one.
    pub(super) fn broken(&self, why: &str) {
        let mut state = lock(&self.state);
        state.connected = false;
        why.clone_into(&mut state.last_error);
        let sent: Vec<u64> =
            state.flights.iter().filter(|(_, f)| f.sent).map(|(i, _)| *i).collect();
        let broken: Vec<_> = sent.iter().filter_map(|id| state.flights.remove(id)).collect();
        // Signs of life are for the connection they were queued for.
        let mut kept = Queue::default();
        while let Some(frame) = state.queue.pop() {
            if matches!(frame.kind, Kind::Call | Kind::Cast) {
                kept.push(frame);
            }
        }
        state.queue = kept;
        drop(state);
        for flight in broken {
            let _ = flight.answer.send(Err(CallError::Broken(self.peer)));
        }
    }

    /// No connection could be made: everything queued ends, and never left.
    pub(super) fn unreachable(&self, why: &str) {
        why.clone_into(&mut lock(&self.state).last_error);
        self.fail_unsent(&CallError::Unreachable(self.peer, why.to_owned()));
    }

    /// Takes nothing in any more; what is queued may still leave.
    pub(super) fn end(&self, why: CallError) {
        lock(&self.state).ended.get_or_insert(why);
    }

    /// Ends everything that has not left with `why`.
    pub(super) fn fail_unsent(&self, why: &CallError) {
        let mut state = lock(&self.state);
        while state.queue.pop().is_some() {}
        let unsent: Vec<u64> =
            state.flights.iter().filter(|(_, f)| !f.sent).map(|(i, _)| *i).collect();
        let failed: Vec<_> = unsent.iter().filter_map(|id| state.flights.remove(id)).collect();
        drop(state);
        for flight in failed {
            let _ = flight.answer.send(Err(why.clone()));
        }
    }

    /// Whether calls still wait for answers.
    pub(super) fn is_quiet(&self) -> bool {
        let state = lock(&self.state);
        state.flights.is_empty() && state.queue.len() == 0
    }
}

impl Source for Lane {
    fn drain(&self, batch: &mut Batch) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        while !batch.is_full() {
            let Some(frame) = state.queue.pop() else { return };
            if let Some(id) = frame.call {
                // A call that ended in the queue never leaves.
                let Some(flight) = state.flights.get_mut(&id) else { continue };
                flight.sent = true;
            }
            batch.push(frame);
        }
    }

    fn wake(&self) -> &Notify {
        &self.wake
    }
}

/// A call somebody waits for. Dropping it forgets the call.
struct Open {
    lane: Arc<Lane>,
    id: u64,
}

impl Open {
    /// The deadline has passed: how the call ends.
    fn expire(&self) -> CallError {
        let mut state = lock(&self.lane.state);
        let sent = state.flights.remove(&self.id).is_none_or(|flight| flight.sent);
        if sent || state.connected {
            CallError::TimedOut(self.lane.peer)
        } else {
            CallError::Unreachable(self.lane.peer, state.last_error.clone())
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.lane.state).flights.remove(&self.id);
    }
}
