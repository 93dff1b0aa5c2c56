//! Clients: each does one thing at a time, over a link to a task that the node owns.
//!
//! A client never runs a node's code. It sends its question to the node's own task; when the node
//! dies the task is dropped, the question with it, and the client knows that it knows nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::env::Rng;
use futures::future::{Either, select};
use tokio::sync::oneshot;

use super::World;
use crate::history::{Outcome, Reply};
use crate::plan::TimedOp;
use crate::strategy::{Place, Strategy};
use crate::time::SimTime;
use crate::workload::{Action, Class, Memory};

/// A question on its way to a node.
pub(super) struct Ask {
    pub(super) class: Class,
    pub(super) action: Action,
    /// The token of the client's session.
    pub(super) session: Option<String>,
    /// When the client stops waiting.
    pub(super) deadline: SimTime,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// How often a final read is asked again: what cannot be read cannot be judged.
const FINAL_ATTEMPTS: u32 = 4;

/// Runs every client of the plan to its end.
pub(super) async fn run_all<S: Strategy>(world: Arc<World<S>>) {
    let mut clients: BTreeMap<u8, Vec<TimedOp>> = BTreeMap::new();
    for op in &world.plan.ops {
        clients.entry(op.client).or_default().push(op.clone());
    }
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|(client, ops)| tokio::spawn(run_one(world.clone(), client, ops)))
        .collect();
    for task in tasks {
        if let Err(error) = task.await {
            let verdict = crate::check::Verdict::Harness(format!("a client ended: {error}"));
            world.find("harness", verdict);
        }
    }
}

async fn run_one<S: Strategy>(world: Arc<World<S>>, client: u8, ops: Vec<TimedOp>) {
    let rng = world.rng.stream(&format!("client {client}"));
    let final_from = world.plan.config.phases.heal + world.plan.config.quiescence;
    let (mut memory, mut session) = (Memory::new(), None);
    for op in ops {
        let is_final = op.at >= final_from;
        // An open plan would pile up operations while nobody answers, and a search for a
        // linearization of hundreds of open ones has no end.
        if world.now() > op.at && !is_final {
            world.count(|stats| stats.skipped += 1);
            continue;
        }
        world.sleep_until(op.at.max(world.now())).await;
        let attempts = if is_final { FINAL_ATTEMPTS } else { 1 };
        for _ in 0..attempts {
            let reply = attempt(&world, &*rng, client, &op, (&mut memory, &mut session)).await;
            if reply.outcome == Outcome::Applied {
                break;
            }
        }
    }
}

async fn attempt<S: Strategy>(
    world: &Arc<World<S>>,
    rng: &dyn Rng,
    client: u8,
    op: &TimedOp,
    (memory, session): (&mut Memory, &mut Option<String>),
) -> Reply {
    let action = memory.resolve(op.action);
    let place = world.resolve_one(&op.target, 0);
    let deadline = world.now() + world.plan.config.op_deadline;
    let id = world.record(|r| {
        let id = r.invoke(world.now(), client, op.class, action, Some(deadline));
        r.target(id, place.0);
        id
    });
    world.note(Some(place), "invoke", format!("{client} {action}").as_bytes());
    let token = session.clone().filter(|_| op.class == Class::Session);
    let mut reply = ask(world, rng, place, (op.class, action, token), deadline).await;
    if reply.session_lost {
        *session = None;
    } else if reply.token.is_some() {
        session.clone_from(&reply.token);
    }
    reply.target = Some(place.0);
    if reply.outcome == Outcome::Applied {
        memory.note(action, reply.seen.as_ref());
    }
    world.note(Some(place), "return", format!("{client} {reply:?}").as_bytes());
    world.record(|r| r.complete(world.now(), id, reply.clone()));
    reply
}

/// One question to one node, there and back.
async fn ask<S: Strategy>(
    world: &Arc<World<S>>,
    rng: &dyn Rng,
    place: Place,
    (class, action, session): (Class, Action, Option<String>),
    deadline: SimTime,
) -> Reply {
    let way = || Duration::from_micros(200 + rng.below(2_000));
    tokio::time::sleep(way()).await;
    let (reply, answer) = oneshot::channel();
    // A connection that is refused never carried the question.
    let Some(link) = world.machine(place).link() else {
        return Reply::new(Outcome::NotApplied);
    };
    let ask = Ask { class, action, session, deadline, reply };
    if link.send(ask).is_err() {
        return Reply::new(Outcome::NotApplied);
    }
    let open = Reply::new(if action.is_read() { Outcome::NotApplied } else { Outcome::Unknown });
    let back = async {
        let reply = answer.await.ok()?;
        tokio::time::sleep(way()).await;
        Some(reply)
    };
    match select(std::pin::pin!(back), std::pin::pin!(world.sleep_until(deadline))).await {
        Either::Left((Some(reply), _)) => reply,
        Either::Left((None, _)) | Either::Right(_) => open,
    }
}
