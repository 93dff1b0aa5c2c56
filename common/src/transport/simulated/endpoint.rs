//! A node's end of the simulated network, and the pump that lets messages arrive.
#![expect(clippy::disallowed_methods, reason = "this is a side of the seams")]

use std::fmt;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, Either, ready, select};
use tokio::sync::{Notify, mpsc, oneshot};

use super::world::{Answer, Arrival, Farewell, Message};
use super::{Envelope, Net};
use crate::env::Env;
use crate::ids::{Incarnation, NodeId};
use crate::transport::frame::Kind;
use crate::transport::{CallError, Class, Handler, Transport};

/// The transport of one incarnation of a simulated node.
pub(super) struct SimTransport {
    net: Arc<Net>,
    node: NodeId,
    generation: u64,
}

impl fmt::Debug for SimTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimTransport({:?})", self.node)
    }
}

impl SimTransport {
    pub(super) fn new(net: Arc<Net>, node: NodeId, generation: u64) -> Self {
        Self { net, node, generation }
    }

    fn message(&self, to: NodeId, class: Class, kind: Kind, call: u64, body: Bytes) -> Message {
        Message { from: self.node, to, class, kind, call, body, to_generation: None }
    }

    fn start_call(
        &self,
        to: NodeId,
        class: Class,
        body: Bytes,
    ) -> Result<(u64, oneshot::Receiver<Answer>), CallError> {
        let (sender, answer) = oneshot::channel();
        let (incarnation, id) = {
            let mut world = self.net.state();
            let incarnation = world.admit(self.node, self.generation, to, class, &body)?;
            (incarnation, world.open_call(self.node, to, class, sender))
        };
        self.net.send(self.message(to, class, Kind::Call, id, body), incarnation);
        Ok((id, answer))
    }
}

impl Net {
    /// Shows a message to the observers and puts it on its way.
    fn send(&self, mut message: Message, incarnation: Incarnation) {
        let now = self.world.elapsed();
        self.note("send", &message);
        let observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !observers.is_empty() {
            let envelope = Envelope {
                at: now,
                from: message.from,
                incarnation,
                to: message.to,
                class: message.class,
                kind: message.kind,
                call: message.call,
                body: message.body.clone(),
            };
            for observer in observers {
                observer(&envelope);
            }
        }
        let mut world = self.state();
        message.to_generation = world.generation(message.to);
        world.send(message, now);
        drop(world);
        self.changed.notify_one();
    }

    fn note(&self, what: &str, message: &Message) {
        let Message { from, to, class, kind, body, .. } = message;
        let what = format!("net {what} {kind:?} {class:?} {from}-{to}");
        self.trace.note(self.world.nanos(), from.0, &what, body);
    }

    /// Answers a call on behalf of a node, if that is still the one which took it.
    fn answer(&self, node: NodeId, generation: u64, call: &Message, answer: Result<Bytes, String>) {
        let Some(incarnation) = self.state().incarnation(node, generation) else { return };
        let limit = self.state().frame_limit();
        let (kind, body) = match answer {
            Ok(body) if body.len() > limit => {
                let size = body.len();
                let why = format!("its answer of {size} bytes is over the frame limit of {limit}");
                (Kind::Refusal, Bytes::from(why))
            }
            Ok(body) => (Kind::Reply, body),
            Err(why) => (Kind::Refusal, Bytes::from(why)),
        };
        let (to, class) = (call.from, call.class);
        let answer =
            Message { from: node, to, class, kind, call: call.call, body, to_generation: None };
        self.send(answer, incarnation);
    }

    /// Lets everything happen that is due.
    fn pump(&self) {
        loop {
            let now = self.world.elapsed();
            let Some(arrival) = self.state().step(now) else { return };
            match arrival {
                Arrival::Nothing => {}
                Arrival::Delivered(message) => self.note("deliver", &message),
                Arrival::Lost(message, why) => self.note(why, &message),
                Arrival::Unserved(message) => {
                    self.note("deliver", &message);
                    let generation = self.state().generation(message.to);
                    if let (Kind::Call, Some(generation)) = (message.kind, generation) {
                        let why = "this node does not serve messages yet".to_owned();
                        self.answer(message.to, generation, &message, Err(why));
                    }
                }
            }
        }
    }
}

/// Starts the task that lets messages arrive. It ends with the network.
pub(super) fn start_pump(net: &Arc<Net>, changed: Arc<Notify>) {
    let net: Weak<Net> = Arc::downgrade(net);
    tokio::spawn(async move {
        loop {
            let next = {
                let Some(net) = net.upgrade() else { return };
                net.pump();
                let next = net.state().next_due();
                next.map(|at| {
                    let world = net.world;
                    async move { world.sleep_until(at).await }
                })
            };
            let changed = changed.notified();
            match next {
                Some(due) => {
                    select(std::pin::pin!(due), std::pin::pin!(changed)).await;
                }
                None => changed.await,
            }
        }
    });
}

impl Drop for Net {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

#[async_trait]
impl Transport for SimTransport {
    fn call(
        &self,
        to: NodeId,
        class: Class,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (id, answer) = match self.start_call(to, class, body) {
            Ok(started) => started,
            Err(e) => return Box::pin(ready(Err(e))),
        };
        // A node measures its deadlines with its own clock, which may be wrong.
        let expired: BoxFuture<'static, ()> = if let Some(env) = Env::current() {
            env.sleep(deadline)
        } else {
            let (world, at) = (self.net.world, self.net.world.elapsed() + deadline);
            Box::pin(async move { world.sleep_until(at).await })
        };
        let open = Open { net: self.net.clone(), id };
        Box::pin(async move {
            let _open = open;
            match select(answer, expired).await {
                Either::Left((answer, _)) => answer.unwrap_or(Err(CallError::Broken(to))),
                Either::Right(_) => Err(CallError::TimedOut(to)),
            }
        })
    }

    fn cast(&self, to: NodeId, class: Class, body: Bytes) -> Result<(), CallError> {
        let incarnation = self.net.state().admit(self.node, self.generation, to, class, &body)?;
        self.net.send(self.message(to, class, Kind::Cast, 0, body), incarnation);
        Ok(())
    }

    fn serve(&self, handler: Arc<dyn Handler>) {
        let (sender, mut arrived) = mpsc::unbounded_channel::<Message>();
        self.net.state().serve(self.node, self.generation, sender);
        let (net, node, generation) = (self.net.clone(), self.node, self.generation);
        let env = Env::current();
        let spawn = env.clone();
        // One task takes messages in order, so that a paused node takes none, and a node that dies
        // drops this task with all its others.
        let deliver = async move {
            while let Some(message) = arrived.recv().await {
                let (from, class, body) = (message.from, message.class, message.body.clone());
                let work = handler.handle(from, class, body);
                let net = net.clone();
                let work = async move {
                    let answer = work.await;
                    if message.kind == Kind::Call {
                        net.answer(node, generation, &message, answer);
                    }
                };
                match &spawn {
                    Some(env) => drop(env.spawn("transport handler", work)),
                    None => drop(tokio::spawn(work)),
                }
            }
        };
        match env {
            Some(env) => drop(env.spawn("transport delivery", deliver)),
            None => drop(tokio::spawn(deliver)),
        }
    }

    fn learn(&self, peer: NodeId, _address: &str) {
        self.net.state().learn(self.node, self.generation, peer);
    }

    fn forget(&self, peer: NodeId) {
        let now = self.net.world.elapsed();
        self.net.state().forget(self.node, self.generation, peer, now);
        self.net.changed.notify_one();
    }

    async fn close(&self) {
        let now = self.net.world.elapsed();
        {
            let mut world = self.net.state();
            if world.is_alive(self.node, self.generation) {
                world.detach(self.node, now, Farewell::Announced);
            }
        }
        self.net.changed.notify_one();
    }
}

/// An open call. Dropping it forgets the call.
struct Open {
    net: Arc<Net>,
    id: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.net.state().close_call(self.id);
    }
}
