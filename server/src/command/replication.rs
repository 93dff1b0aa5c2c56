//! What clients ask about replication: ROLE, WAIT and REPL STATUS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::ids::LogPos;
use leader::Role;

use super::arguments::integer;
use super::repl::level_name;
use super::{Action, Context, Handled, say};
use crate::backend::Standing;
use crate::resp::{Value, parse_i64};
use crate::service::Service;

/// ROLE: as Redis says it, a leader with its followers or a follower with its leader. A follower
/// takes writes all the same.
pub(super) fn role(context: &mut Context<'_>, _: &[Bytes]) -> Handled {
    let standing = context.service.backend.standing();
    let identity = context.service.identity();
    let index = |position: Option<LogPos>| position.map_or(0, |position| position.index as i64);
    if standing.role == Role::Leader {
        let found =
            |id: &common::ids::NodeId| *id != identity.node && !standing.hidden.contains(id);
        let others = standing.matched.iter().filter(|(id, _)| found(id));
        let followers = others.map(|(id, matched)| {
            let (host, port) = identity.address(*id);
            Value::Array(vec![
                Value::bulk(host.to_owned()),
                Value::bulk(port.to_string()),
                Value::bulk(index(*matched).to_string()),
            ])
        });
        return say(Value::Array(vec![
            Value::bulk("master"),
            Value::Integer(index(standing.applied)),
            Value::Array(followers.collect()),
        ]));
    }
    let leader = standing.leader.filter(|leader| !standing.hidden.contains(leader));
    let (host, port) = leader.map_or(("", 0), |leader| identity.address(leader));
    say(Value::Array(vec![
        Value::bulk("slave"),
        Value::bulk(host.to_owned()),
        Value::Integer(i64::from(port)),
        Value::bulk(if standing.leader.is_some() { "connected" } else { "connect" }),
        Value::Integer(index(standing.applied)),
    ]))
}

/// WAIT replicas timeout.
pub(super) fn wait(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let replicas = integer(&words[1])?;
    let timeout = parse_i64(&words[2])
        .ok_or_else(|| Value::error("ERR timeout is not an integer or out of range"))?;
    let timeout = u64::try_from(timeout).map_err(|_| Value::error("ERR timeout is negative"))?;
    Ok(Action::Wait { replicas, timeout: (timeout > 0).then_some(timeout) })
}

/// Waits until `replicas` hold a write, and says how many do.
///
/// An acknowledged write is durable on a majority already. How many hold it beyond that only the
/// leader knows: asked there the answer is exact, elsewhere it is the majority.
pub(crate) async fn wait_for_replicas(
    service: Arc<Service>,
    write: Option<LogPos>,
    replicas: i64,
    timeout: Option<u64>,
) -> Value {
    /// How long a follower that has just received an entry takes to say so, about.
    const PAUSE: Duration = Duration::from_millis(2);
    let enough = async {
        loop {
            let held = holders(&service.backend.standing(), service.identity().node, write);
            if held >= replicas {
                return held;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let held = match timeout {
        None => enough.await,
        Some(millis) => match tokio::time::timeout(Duration::from_millis(millis), enough).await {
            Ok(held) => held,
            Err(_) => holders(&service.backend.standing(), service.identity().node, write),
        },
    };
    Value::Integer(held)
}

/// How many members other than one with the client's acknowledgement hold a write durably.
fn holders(standing: &Standing, this: common::ids::NodeId, write: Option<LogPos>) -> i64 {
    let majority = standing.voters.len() as i64 / 2 + 1;
    if standing.role != Role::Leader {
        return (majority - 1).max(0);
    }
    let others = standing.matched.iter().filter(|(id, _)| **id != this);
    let held = others.filter(|(_, matched)| **matched >= write).count() as i64;
    held.max(if write.is_some() { majority - 1 } else { 0 })
}

/// REPL STATUS: what this node knows of its group.
pub(super) fn status(context: &mut Context<'_>, _: &[Bytes]) -> Handled {
    let standing = context.service.backend.standing();
    let identity = context.service.identity();
    let text = |text: &'static str| Value::bulk(text);
    let position = |position: Option<LogPos>| {
        position.map_or(Value::Null, |position| Value::Integer(position.index as i64))
    };
    let role = match standing.role {
        Role::Uninitialized => "uninitialized",
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
        _ => "unknown",
    };
    let known: BTreeMap<_, _> = standing.voters.iter().map(|id| (*id, None)).collect();
    let members = known.into_iter().chain(standing.matched).collect::<BTreeMap<_, _>>();
    let members = members.into_iter().map(|(id, matched)| {
        let (host, port) = identity.address(id);
        Value::Map(vec![
            (text("id"), Value::Integer(id.0 as i64)),
            (text("address"), Value::bulk(format!("{host}:{port}"))),
            (text("matched"), position(matched)),
        ])
    });
    let members = Value::Array(members.collect());
    let leader = standing.leader.map_or(Value::Null, |leader| Value::Integer(leader.0 as i64));
    say(Value::Map(vec![
        (text("cluster"), Value::bulk(identity.cluster.clone())),
        (text("node"), Value::Integer(identity.node.0 as i64)),
        (text("strategy"), text("leader")),
        (text("role"), text(role)),
        (text("leader"), leader),
        (text("term"), Value::Integer(standing.term as i64)),
        (text("applied"), position(standing.applied)),
        (text("read"), Value::bulk(level_name(context.session.level))),
        (text("members"), members),
    ]))
}
