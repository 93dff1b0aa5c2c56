//! The incoming side: connections are introduced, bounded, and served.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::sync::Notify;

use super::sockets::Listener;
use super::wire::{
    Batch, FrameReader, Outgoing, Pulse, Queue, ReadError, Signal, Source, lock, micros, write_from,
};
use super::{LinkLimits, Served, Shared, Socket};
use crate::ids::{GroupId, NodeId};
use crate::transport::Class;
use crate::transport::frame::{Head, Kind};
use crate::transport::handshake::Hello;

/// Accepts connections until the transport closes.
pub(super) async fn listen(shared: Arc<Shared>, mut listener: Box<dyn Listener>) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.closing.wait() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(socket) => {
                let newcomer = shared.newcomers.admit(shared.config.limits.handshakes);
                let connection = serve(shared.clone(), socket, newcomer);
                shared.spawn("transport connection", connection);
            }
            Err(e) => {
                // Out of descriptors, most likely: accepting again at once would only spin.
                tracing::warn!(error = %e, "cannot accept a connection");
                shared.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Connections that have not introduced themselves yet. When there are too many, the oldest goes:
/// an honest one is done within milliseconds.
#[derive(Debug, Default)]
pub(super) struct Newcomers(Mutex<VecDeque<Arc<Signal>>>);

impl Newcomers {
    fn admit(&self, limit: usize) -> Arc<Signal> {
        let evicted = Arc::new(Signal::default());
        let mut waiting = lock(&self.0);
        waiting.push_back(evicted.clone());
        while waiting.len() > limit {
            if let Some(oldest) = waiting.pop_front() {
                oldest.set();
            }
        }
        evicted
    }

    fn leave(&self, newcomer: &Arc<Signal>) {
        lock(&self.0).retain(|other| !Arc::ptr_eq(other, newcomer));
    }
}

async fn serve(shared: Arc<Shared>, socket: Socket, newcomer: Arc<Signal>) {
    let remote = socket.remote.clone();
    let introduced = tokio::select! {
        biased;
        introduced = introduction(&shared, socket) => introduced,
        () = newcomer.wait() => Err("too many connections have not introduced themselves".to_owned()),
        () = shared.sleep(shared.config.limits.handshake) => {
            Err(format!("it did not introduce itself within {:?}", shared.config.limits.handshake))
        }
        () = shared.closing.wait() => return,
    };
    shared.newcomers.leave(&newcomer);
    let (mut socket, hello) = match introduced {
        Ok(introduced) => introduced,
        Err(why) => {
            tracing::warn!(remote, why, "closed an incoming connection");
            return;
        }
    };
    let (node, class) = (hello.node, hello.class);
    let incoming = Arc::new(Incoming::new(&hello, &shared.config.limits));
    let replaced = match shared.register(&incoming) {
        Ok(replaced) => replaced,
        Err(why) => {
            tracing::warn!(remote, peer = %node, why, "closed an incoming connection");
            shared.reject(&mut socket, &why).await;
            return;
        }
    };
    let _registered = Registered { shared: shared.clone(), incoming: incoming.clone() };
    for old in replaced {
        // What the old connection delivered is delivered before the new one begins.
        old.close("a newer connection of the same node has replaced it");
        old.ended.wait().await;
    }
    let welcomed = tokio::select! {
        biased;
        welcomed = shared.welcome(&mut socket, &hello) => welcomed,
        () = incoming.closing.wait() => return,
        () = shared.sleep(shared.config.limits.handshake) => Err("it does not read".to_owned()),
    };
    let why = match welcomed {
        Ok(()) => {
            shared.peer_returned(node);
            incoming.converse(&shared, socket).await
        }
        Err(why) => why,
    };
    if shared.closing.is_set() {
        return;
    }
    tracing::info!(remote, peer = %node, ?class, why, "incoming connection closed");
}

async fn introduction(shared: &Shared, socket: Socket) -> Result<(Socket, Hello), String> {
    let mut socket = shared.parts.sockets.admit(socket).await.map_err(|e| e.to_string())?;
    let hello = shared.receive_greeting(&mut socket).await?;
    Ok((socket, hello))
}

/// Takes the connection off the list however its task ends, also by a handler's panic.
struct Registered {
    shared: Arc<Shared>,
    incoming: Arc<Incoming>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let key = (self.incoming.peer, self.incoming.class);
        let mut accepted = lock(&self.shared.accepted);
        if accepted.get(&key).is_some_and(|current| Arc::ptr_eq(current, &self.incoming)) {
            accepted.remove(&key);
        }
        drop(accepted);
        self.incoming.ended.set();
    }
}

/// One accepted connection: the calls it brought and the answers that wait to leave.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) peer: NodeId,
    pub(super) class: Class,
    pub(super) address: String,
    pub(super) hello: Hello,
    frame_limit: usize,
    serving_limit: usize,
    bytes_limit: usize,
    state: Mutex<State>,
    wake: Notify,
    /// Notified when a handler has ended or answers have left.
    room: Notify,
    closing: Signal,
    ended: Signal,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// Handlers that run, and the bytes of the messages they hold.
    serving: usize,
    serving_bytes: usize,
    why: Option<String>,
}

impl Incoming {
    fn new(hello: &Hello, limits: &LinkLimits) -> Self {
        Self {
            peer: hello.node,
            class: hello.class,
            address: hello.address.clone(),
            hello: hello.clone(),
            frame_limit: limits.frame.min(hello.frame_limit as usize),
            serving_limit: limits.serving,
            bytes_limit: limits.queue_bytes,
            state: Mutex::default(),
            wake: Notify::new(),
            room: Notify::new(),
            closing: Signal::default(),
            ended: Signal::default(),
        }
    }

    /// Closes the connection; the other end reads why.
    pub(super) fn close(&self, why: &str) {
        lock(&self.state).why.get_or_insert_with(|| why.to_owned());
        self.closing.set();
    }

    fn push(&self, head: Head, body: Bytes) {
        lock(&self.state).queue.push(Outgoing::new(head, body));
        self.wake.notify_one();
    }

    fn answer(&self, call: u64, answer: Result<Bytes, String>) {
        let answer = answer.and_then(|body| {
            let (size, limit) = (body.len(), self.frame_limit);
            if size > limit {
                return Err(format!(
                    "its answer of {size} bytes is over the frame limit of {limit}"
                ));
            }
            Ok(body)
        });
        match answer {
            Ok(body) => self.push(Head::new(Kind::Reply, self.class, call), body),
            Err(why) => {
                let why = Bytes::from(why);
                let why = why.slice(..why.len().min(1024).min(self.frame_limit));
                self.push(Head::new(Kind::Refusal, self.class, call), why);
            }
        }
    }

    fn is_full(&self) -> bool {
        let state = lock(&self.state);
        state.serving >= self.serving_limit
            || state.serving_bytes + state.queue.bytes() > self.bytes_limit
    }

    fn is_quiet(&self) -> bool {
        let state = lock(&self.state);
        state.serving == 0 && state.queue.len() == 0
    }

    /// Serves the connection until it ends. Returns why it did.
    async fn converse(self: &Arc<Self>, shared: &Arc<Shared>, socket: Socket) -> String {
        let (bytes_in, bytes_out) = shared.counters(self.peer);
        let pulse = Pulse::new(shared.parts.clock.clone(), bytes_in, bytes_out);
        let Socket { reader, mut writer, .. } = socket;
        let mut reader = FrameReader::new(reader, shared.config.limits.frame);
        let why = tokio::select! {
            biased;
            why = self.read(shared, &mut reader, &pulse) => why,
            written = write_from(&**self, &mut *writer, &pulse, false) => match written {
                Ok(()) => "nothing more to write".to_owned(),
                Err(e) => e.to_string(),
            },
            why = self.heartbeat(shared, &pulse) => why,
            () = self.closing.wait() => {
                lock(&self.state).why.clone().unwrap_or_default()
            }
            () = shared.closing.wait() => "this node is shutting down".to_owned(),
        };
        let farewell = async {
            while shared.closing.is_set() && !self.is_quiet() {
                write_from(&**self, &mut *writer, &pulse, true).await.ok()?;
                shared.sleep(Duration::from_millis(5)).await;
            }
            let head = Head::new(Kind::Goodbye, self.class, 0);
            self.push(head, Bytes::from(why.clone()));
            write_from(&**self, &mut *writer, &pulse, true).await.ok()?;
            writer.shutdown().await.ok()
        };
        tokio::select! {
            biased;
            _ = farewell => {}
            () = shared.sleep(shared.config.limits.drain) => {}
        }
        why
    }

    async fn read<R: AsyncRead + Send + Unpin>(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        reader: &mut FrameReader<R>,
        pulse: &Pulse,
    ) -> String {
        loop {
            if self.is_full() {
                // Back-pressure: what is not read waits at the sender.
                pulse.paused.store(true, Ordering::Relaxed);
                while self.is_full() {
                    self.room.notified().await;
                }
                pulse.hear(0);
                pulse.paused.store(false, Ordering::Relaxed);
            }
            let (head, body) = match reader.next(pulse).await {
                Ok(frame) => frame,
                Err(e @ (ReadError::Closed | ReadError::Truncated | ReadError::Io(_))) => {
                    return e.to_string();
                }
                Err(e @ ReadError::Frame(_)) => {
                    tracing::warn!(peer = %self.peer, error = %e, "closing the connection of a peer that sends what is not a frame");
                    return e.to_string();
                }
            };
            match head.kind {
                Kind::Call | Kind::Cast => self.dispatch(shared, head, body),
                Kind::Ping => self.push(Head::new(Kind::Pong, self.class, head.call), Bytes::new()),
                Kind::Pong => {}
                Kind::Goodbye => return "it said goodbye".to_owned(),
                Kind::Reply | Kind::Refusal => return "it answered a call never made".to_owned(),
            }
            // A peer that always has more ready must not starve this task's other halves.
            tokio::task::consume_budget().await;
        }
    }

    fn dispatch(self: &Arc<Self>, shared: &Arc<Shared>, head: Head, body: Bytes) {
        let refuse = |why: &str| {
            if head.kind == Kind::Call {
                self.answer(head.call, Err(why.to_owned()));
            }
        };
        if head.group != GroupId(0) {
            return refuse("this node serves group 0 only");
        }
        if head.class != self.class {
            return self.close("it sent a message of another class than its connection's");
        }
        let served = lock(&shared.served).clone();
        let Some(Served { handler, env }) = served else {
            return refuse("this node does not serve messages yet");
        };
        let load = Load::new(self.clone(), body.len());
        let (from, class) = (self.peer, self.class);
        let work = async move {
            let answer = handler.handle(from, class, body).await;
            if head.kind == Kind::Call {
                load.incoming.answer(head.call, answer);
            }
            drop(load);
        };
        // The first poll calls the handler here, which keeps the order of the wire, and spares a
        // task to handlers that answer at once. Polling with a waker that does nothing is fine,
        // because whoever polls next brings the real one.
        let mut nobody = Context::from_waker(Waker::noop());
        if let Some(env) = env {
            let mut work = Box::pin(env.scope(work));
            if work.as_mut().poll(&mut nobody).is_pending() {
                drop(env.spawn("transport handler", work));
            }
        } else {
            let mut work: BoxFuture<'static, ()> = Box::pin(work);
            if work.as_mut().poll(&mut nobody).is_pending() {
                drop(shared.parts.spawn.spawn("transport handler", work));
            }
        }
    }

    async fn heartbeat(&self, shared: &Shared, pulse: &Pulse) -> String {
        let idle = shared.config.limits.idle;
        let beat = idle / 6;
        // One beat early, so that the whole limit is kept.
        let patience = beat * 5;
        loop {
            let now = micros(shared.parts.clock.now());
            self.push(Head::new(Kind::Ping, self.class, now), Bytes::new());
            for _ in 0..2 {
                shared.sleep(beat).await;
                if pulse.silence() >= patience {
                    return format!("nothing was heard for {idle:?}");
                }
                if pulse.stall() >= patience {
                    return format!("it took none of its answers for {idle:?}");
                }
            }
        }
    }
}

impl Source for Incoming {
    fn drain(&self, batch: &mut Batch) {
        let mut state = lock(&self.state);
        while !batch.is_full() {
            let Some(frame) = state.queue.pop() else { break };
            batch.push(frame);
        }
        drop(state);
        self.room.notify_one();
    }

    fn wake(&self) -> &Notify {
        &self.wake
    }
}

/// One running handler's share of the connection's bounds, given back however it ends.
struct Load {
    incoming: Arc<Incoming>,
    bytes: usize,
}

impl Load {
    fn new(incoming: Arc<Incoming>, bytes: usize) -> Self {
        let mut state = lock(&incoming.state);
        state.serving += 1;
        state.serving_bytes += bytes;
        drop(state);
        Self { incoming, bytes }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let mut state = lock(&self.incoming.state);
        state.serving -= 1;
        state.serving_bytes -= self.bytes;
        drop(state);
        self.incoming.room.notify_one();
    }
}
