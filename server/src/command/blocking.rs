//! Pops that wait for elements: BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BLMPOP, BZPOPMIN, BZPOPMAX, BZMPOP;
//! and LMPOP and ZMPOP, which do not.
//!
//! Between MULTI and EXEC they do not wait either: there they are what they are without their B.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::consistency::ReplicationMode;
use common::storage::engine::EngineError;
use leader::ReadLevel;
use leader::error::{ReadError, WriteError};

use super::arguments::{integer, is, syntax};
use super::{Action, Answered, Context, Handled, Show, plain, write_failure};
use crate::backend::Applied;
use crate::blocking::Place;
use crate::clients::{Client, Unblocked};
use crate::redis::{Command, Cut, End, Kind, Reply};
use crate::resp::{Value, parse_i64};
use crate::service::Service;

/// The pause after a failover has come in between.
const PAUSE: Duration = Duration::from_millis(50);

/// A pop that waits.
#[derive(Debug)]
pub(crate) struct Pop {
    /// What it waits for.
    keys: Vec<Bytes>,
    take: Take,
    /// Without one it waits for ever.
    timeout: Option<Duration>,
    pub(super) show: Show,
}

/// What it does with the first of its keys that has something.
#[derive(Debug)]
enum Take {
    Some { kind: Kind, end: End, count: u64 },
    Move { end: End, to: (Bytes, End) },
}

impl Pop {
    /// The command that takes from these keys, or from all.
    pub(super) fn command(&self, keys: Option<Vec<Bytes>>) -> Command {
        let keys = keys.unwrap_or_else(|| self.keys.clone());
        match &self.take {
            Take::Some { kind, end, count } => {
                let (kind, end, count) = (*kind, *end, *count);
                Command::PopFirst { keys, kind, end, count }
            }
            Take::Move { end, to } => {
                let from = keys.into_iter().next().unwrap_or_default();
                Command::ListMove { from: (from, *end), to: to.clone() }
            }
        }
    }

    const fn kind(&self) -> Kind {
        match self.take {
            Take::Some { kind, .. } => kind,
            Take::Move { .. } => Kind::List,
        }
    }

    /// Which of these keys have something by what this node has applied.
    async fn filled(&self, service: &Service, keys: Vec<Bytes>) -> Result<Vec<Bytes>, ReadError> {
        let view = service.backend.view(ReadLevel::Eventual, None).await?;
        let cut = Cut::open(&view, view.clock, view.now)?;
        let found: Result<Vec<_>, EngineError> = keys
            .into_iter()
            .map(|key| Ok(cut.get(&key)?.filter(|record| record.kind == self.kind()).map(|_| key)))
            .collect();
        Ok(found?.into_iter().flatten().collect())
    }
}

/// Waits until there is something, the time is over, or somebody ends it.
pub(crate) async fn block(
    service: Arc<Service>,
    client: Arc<Client>,
    mode: Option<ReplicationMode>,
    pop: Pop,
) -> Answered {
    let deadline = pop.timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    let over = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let mut over = std::pin::pin!(over);
    let blocks = client.blocks();
    let place = Place::take(&service, &pop.keys);
    // The first time its keys are asked, whatever this node knows of them.
    let mut keys = place.first_of();
    loop {
        let mut again = false;
        if !keys.is_empty() {
            let command = pop.command(Some(std::mem::take(&mut keys)));
            match service.backend.submit(command, mode.clone()).await {
                Ok(Applied { reply: Reply::NotDone | Reply::Value(None), .. }) => {}
                Ok(Applied { reply, receipt, report }) => {
                    let (value, of) = ((pop.show)(reply), Arc::clone(&service));
                    return Answered {
                        value,
                        then: Some(Box::new(move |session| session.wrote(&of, receipt, report))),
                    };
                }
                Err(WriteError::NoLeader(_) | WriteError::Overloaded { .. }) => again = true,
                Err(error) => return write_failure(&error).into(),
            }
        }
        let pause =
            async { if again { tokio::time::sleep(PAUSE).await } else { place.woken().await } };
        tokio::select! {
            biased;
            why = blocks.unblocked() => return match why {
                Unblocked::Timeout => Value::NullArray.into(),
                Unblocked::Error => {
                    Value::error("UNBLOCKED client unblocked via CLIENT UNBLOCK").into()
                }
            },
            () = pause => {}
            () = &mut over => return Value::NullArray.into(),
        }
        keys = place.first_of();
        if !again {
            // What cannot be read now is asked for in vain at worst.
            let all = keys.clone();
            keys = pop.filled(&service, keys).await.unwrap_or(all);
        }
    }
}

fn timeout(word: &[u8]) -> Result<Option<Duration>, Value> {
    let number = std::str::from_utf8(word).ok().and_then(|text| text.parse::<f64>().ok());
    let invalid = || Value::error("ERR timeout is not a float or out of range");
    let seconds = number.filter(|seconds| seconds.is_finite()).ok_or_else(invalid)?;
    if seconds < 0.0 {
        return Err(Value::error("ERR timeout is negative"));
    }
    if seconds * 1000.0 > i64::MAX as f64 {
        return Err(Value::error("ERR timeout is out of range"));
    }
    // Redis rounds up to milliseconds, so that a short wait is not one for ever.
    let millis = (seconds * 1000.0).ceil() as u64;
    Ok((millis > 0).then(|| Duration::from_millis(millis)))
}

fn blocks(keys: &[Bytes], take: Take, timeout: Option<Duration>, show: Show) -> Handled {
    Ok(Action::Block(Pop { keys: keys.to_vec(), take, timeout, show }))
}

/// The key and the one element of it.
fn one(reply: Reply) -> Value {
    match reply {
        Reply::TakenFrom(key, values) => {
            Value::Array([key].into_iter().chain(values).map(Value::Bulk).collect())
        }
        Reply::ScoredFrom(key, members) => {
            let pairs = members.into_iter();
            let pairs =
                pairs.flat_map(|(member, score)| [Value::Bulk(member), Value::Double(score.get())]);
            Value::Array([Value::Bulk(key)].into_iter().chain(pairs).collect())
        }
        Reply::NotDone => Value::NullArray,
        other => plain(other),
    }
}

/// The key and a list of elements.
fn several(reply: Reply) -> Value {
    match reply {
        Reply::TakenFrom(key, values) => {
            let values = values.into_iter().map(Value::Bulk).collect();
            Value::Array(vec![Value::Bulk(key), Value::Array(values)])
        }
        Reply::ScoredFrom(key, members) => {
            let pair = |(member, score): (Bytes, crate::redis::Score)| {
                Value::Array(vec![Value::Bulk(member), Value::Double(score.get())])
            };
            let members = members.into_iter().map(pair).collect();
            Value::Array(vec![Value::Bulk(key), Value::Array(members)])
        }
        Reply::NotDone => Value::NullArray,
        other => plain(other),
    }
}

fn pop(words: &[Bytes], kind: Kind, end: End) -> Handled {
    let (last, keys) = words[1..].split_last().ok_or_else(syntax)?;
    blocks(keys, Take::Some { kind, end, count: 1 }, timeout(last)?, one)
}

/// BLPOP key [key ...] timeout.
pub(super) fn blpop(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    pop(words, Kind::List, End::Front)
}

/// BRPOP key [key ...] timeout.
pub(super) fn brpop(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    pop(words, Kind::List, End::Back)
}

/// BZPOPMIN key [key ...] timeout.
pub(super) fn bzpopmin(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    pop(words, Kind::SortedSet, End::Front)
}

/// BZPOPMAX key [key ...] timeout.
pub(super) fn bzpopmax(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    pop(words, Kind::SortedSet, End::Back)
}

/// BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout.
pub(super) fn blmove(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (from, to) = (side(&words[3])?, side(&words[4])?);
    let take = Take::Move { end: from, to: (words[2].clone(), to) };
    blocks(&words[1..2], take, timeout(&words[5])?, plain)
}

/// BRPOPLPUSH source destination timeout.
pub(super) fn brpoplpush(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let take = Take::Move { end: End::Back, to: (words[2].clone(), End::Front) };
    blocks(&words[1..2], take, timeout(&words[3])?, plain)
}

fn side(word: &Bytes) -> Result<End, Value> {
    match word {
        word if is(word, "LEFT") => Ok(End::Front),
        word if is(word, "RIGHT") => Ok(End::Back),
        _ => Err(syntax()),
    }
}

fn rank(word: &Bytes) -> Result<End, Value> {
    match word {
        word if is(word, "MIN") => Ok(End::Front),
        word if is(word, "MAX") => Ok(End::Back),
        _ => Err(syntax()),
    }
}

/// `numkeys key [key ...] end [COUNT count]`.
fn counted(
    words: &[Bytes],
    end: fn(&Bytes) -> Result<End, Value>,
) -> Result<(&[Bytes], End, u64), Value> {
    let positive = |word: &[u8], what: &str| {
        let number = parse_i64(word).filter(|number| *number > 0);
        number.ok_or_else(|| Value::error(format!("ERR {what} should be greater than 0")))
    };
    let number = positive(&words[0], "numkeys")?;
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    if number >= words.len() - 1 {
        return Err(syntax());
    }
    let (keys, rest) = words[1..].split_at(number);
    let end = end(&rest[0])?;
    let mut count = None;
    let mut options = rest[1..].iter();
    while let Some(option) = options.next() {
        match options.next() {
            Some(value) if is(option, "COUNT") && count.is_none() => {
                count = Some(positive(value, "count")?);
            }
            _ => return Err(syntax()),
        }
    }
    Ok((keys, end, count.map_or(1, i64::unsigned_abs)))
}

fn first(words: &[Bytes], kind: Kind, end: fn(&Bytes) -> Result<End, Value>) -> Handled {
    let (keys, end, count) = counted(&words[1..], end)?;
    Ok(Action::Write(Command::PopFirst { keys: keys.to_vec(), kind, end, count }, several))
}

fn first_blocks(words: &[Bytes], kind: Kind, end: fn(&Bytes) -> Result<End, Value>) -> Handled {
    let timeout = timeout(&words[1])?;
    let (keys, end, count) = counted(&words[2..], end)?;
    blocks(keys, Take::Some { kind, end, count }, timeout, several)
}

/// LMPOP numkeys key [key ...] LEFT|RIGHT [COUNT count].
pub(super) fn lmpop(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    first(words, Kind::List, side)
}

/// ZMPOP numkeys key [key ...] MIN|MAX [COUNT count].
pub(super) fn zmpop(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    first(words, Kind::SortedSet, rank)
}

/// BLMPOP timeout numkeys key [key ...] LEFT|RIGHT [COUNT count].
pub(super) fn blmpop(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    first_blocks(words, Kind::List, side)
}

/// BZMPOP timeout numkeys key [key ...] MIN|MAX [COUNT count].
pub(super) fn bzmpop(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    first_blocks(words, Kind::SortedSet, rank)
}

/// CLIENT UNBLOCK id [TIMEOUT | ERROR].
pub(super) fn unblock(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let why = match &words[3..] {
        [] => Unblocked::Timeout,
        [how] if is(how, "TIMEOUT") => Unblocked::Timeout,
        [how] if is(how, "ERROR") => Unblocked::Error,
        [_] => {
            let text = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
            return Err(Value::error(text));
        }
        _ => return Err(syntax()),
    };
    let id = integer(&words[2])?;
    let all = context.service.clients.all();
    let found = all.iter().find(|client| client.id as i64 == id);
    let unblocked = found.is_some_and(|client| client.unblock(why));
    Ok(Action::Reply(Value::Integer(i64::from(unblocked))))
}
