//! The family REPL: when a connection's writes are acknowledged, how fresh its reads are, and what
//! became of them.
//!
//! ```text
//! REPL ACK [async | semi k | quorum | all [APPLIED] | first n node.. [APPLIED] | any n node.. [APPLIED]
//!           | datacenter region=n.. [APPLIED]]
//! REPL READ [strong | lease | bounded ms | causal | eventual] [PREFER nearest | here]
//! REPL TOKEN [token]     the session's token; one that is given is joined first
//! REPL LAST              what the last write has achieved, with its receipt
//! REPL LAST READ         who has answered the last read, at which level, and how old it may be
//! REPL RESOLVE receipt   what became of a write
//! REPL EXPLAIN           what this connection's settings give and cost
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::consistency::{AckPoint, Consistency, ReplicationMode, Who};
use common::ids::{NodeId, Region};
use common::receipt::Receipt;
use common::seal::ClusterSecret;
use common::token::Token;
use leader::{Prefer, ReadLevel};

use super::arguments::{is, quoting};
use super::session::Session;
use super::{Action, Context, Handled, ok, read_failure, say};
use crate::backend::Served;
use crate::resp::Value;
use crate::service::Service;

/// What is answered once everything before it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inquiry {
    /// REPL TOKEN, with the token to join.
    Token(Option<Bytes>),
    /// REPL LAST.
    Last,
    /// REPL LAST READ.
    LastRead,
    /// REPL RESOLVE.
    Resolve(Bytes),
}

const ACK: &str = "ERR REPL ACK takes one of async, semi k, quorum, all, first n node.., \
                   any n node.., datacenter region=n..; the last four take APPLIED";

/// REPL ACK [mode].
pub(super) fn ack(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let Some(words) = words.get(2..).filter(|words| !words.is_empty()) else {
        return say(Value::bulk(mode_words(&mode_of(context.session, context.service))));
    };
    let mode = parse_mode(words).ok_or_else(|| Value::error(ACK))?;
    // What these members cannot honour is refused now and not with every write.
    if let Err(why) = context.service.backend.explain(&mode, Consistency::Strong) {
        return Err(Value::error(format!("ERR {why}; the mode is as it was")));
    }
    context.session.mode = Some(mode);
    ok()
}

/// A mode as REPL ACK takes it.
pub(crate) fn write_mode(words: &str) -> Option<ReplicationMode> {
    let words: Vec<Bytes> =
        words.split_whitespace().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
    parse_mode(&words)
}

fn mode_of(session: &Session, service: &Service) -> ReplicationMode {
    session.mode.clone().unwrap_or_else(|| service.backend.write_mode())
}

fn parse_mode(words: &[Bytes]) -> Option<ReplicationMode> {
    let (name, mut rest) = words.split_first()?;
    if is(name, "async") && rest.is_empty() {
        return Some(ReplicationMode::Async);
    }
    if is(name, "quorum") && rest.is_empty() {
        return Some(ReplicationMode::Quorum);
    }
    if is(name, "semi") {
        let [followers] = rest else { return None };
        return Some(ReplicationMode::SemiSync { followers: number(followers)? });
    }
    let mut point = AckPoint::Durable;
    if let Some((last, before)) = rest.split_last()
        && is(last, "APPLIED")
    {
        (point, rest) = (AckPoint::Applied, before);
    }
    let nodes = |words: &[Bytes]| -> Option<(u8, Vec<NodeId>)> {
        let (n, names) = words.split_first()?;
        let names =
            names.iter().map(|name| number(name).map(NodeId)).collect::<Option<Vec<_>>>()?;
        (!names.is_empty()).then_some((number(n)?, names))
    };
    let who = if is(name, "all") && rest.is_empty() {
        Who::All
    } else if is(name, "first") {
        let (n, names) = nodes(rest)?;
        Who::First(n, names)
    } else if is(name, "any") {
        let (n, names) = nodes(rest)?;
        Who::Any(n, names)
    } else if is(name, "datacenter") && !rest.is_empty() {
        let region = |word: &Bytes| {
            let (region, n) = std::str::from_utf8(word).ok()?.split_once('=')?;
            Some((Region(region.to_owned()), n.parse().ok()?))
        };
        Who::EachDatacenter(rest.iter().map(region).collect::<Option<BTreeMap<_, _>>>()?)
    } else {
        return None;
    };
    Some(ReplicationMode::Sync { who, point })
}

fn number<N: std::str::FromStr>(word: &[u8]) -> Option<N> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// A mode in the words that REPL ACK takes.
fn mode_words(mode: &ReplicationMode) -> String {
    let names = |n: &u8, of: &[NodeId]| {
        of.iter().fold(n.to_string(), |words, name| format!("{words} {name}"))
    };
    match mode {
        ReplicationMode::Async => "async".to_owned(),
        ReplicationMode::SemiSync { followers } => format!("semi {followers}"),
        ReplicationMode::Quorum => "quorum".to_owned(),
        ReplicationMode::Sync { who, point } => {
            let who = match who {
                Who::All => "all".to_owned(),
                Who::First(n, of) => format!("first {}", names(n, of)),
                Who::Any(n, of) => format!("any {}", names(n, of)),
                Who::EachDatacenter(regions) => {
                    regions.iter().fold("datacenter".to_owned(), |words, (region, n)| {
                        format!("{words} {region}={n}")
                    })
                }
            };
            if *point == AckPoint::Applied { format!("{who} APPLIED") } else { who }
        }
    }
}

/// REPL READ [level].
pub(super) fn read(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    const LEVELS: &str = "ERR REPL READ takes one of strong, lease, bounded ms (1 to 86400000), causal, eventual, and \
         then PREFER nearest or PREFER here";
    let (words, prefer) = match words {
        [before @ .., prefer, who] if before.len() > 2 && is(prefer, "PREFER") => match who {
            who if is(who, "nearest") => (before, Prefer::Nearest),
            who if is(who, "here") => (before, Prefer::Here),
            _ => return Err(Value::error(LEVELS)),
        },
        words => (words, Prefer::Here),
    };
    let level = match words {
        [_, _] => {
            let nearest = context.session.prefer == Prefer::Nearest;
            let prefer = if nearest { " PREFER nearest" } else { "" };
            return say(Value::bulk(level_name(context.session.level) + prefer));
        }
        [_, _, level] => level,
        [_, _, level, age] if is(level, "bounded") => {
            let millis = number::<u64>(age).filter(|millis| (1..=86_400_000).contains(millis));
            let age = Duration::from_millis(millis.ok_or_else(|| Value::error(LEVELS))?);
            (context.session.level, context.session.prefer) = (ReadLevel::Bounded(age), prefer);
            return ok();
        }
        _ => return Err(Value::error(LEVELS)),
    };
    context.session.level = if is(level, "strong") {
        ReadLevel::Strong
    } else if is(level, "lease") {
        ReadLevel::Lease
    } else if is(level, "causal") {
        ReadLevel::Causal
    } else if is(level, "eventual") {
        ReadLevel::Eventual
    } else {
        return Err(quoting(
            "ERR this version has no read level '",
            level,
            "'; it has strong, lease, bounded ms, causal, eventual",
        ));
    };
    context.session.prefer = prefer;
    ok()
}

/// A level as REPL READ takes it.
pub(super) fn level_name(level: ReadLevel) -> String {
    match level {
        ReadLevel::Strong => "strong".to_owned(),
        ReadLevel::Lease => "lease".to_owned(),
        ReadLevel::Bounded(age) => format!("bounded {}", age.as_millis()),
        ReadLevel::Eventual => "eventual".to_owned(),
        ReadLevel::Causal => "causal".to_owned(),
        ReadLevel::At(_) => "snapshot".to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// REPL TOKEN [token].
pub(super) fn token(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    match words {
        [_, _] => Ok(Action::Inquire(Inquiry::Token(None))),
        [_, _, token] => Ok(Action::Inquire(Inquiry::Token(Some(token.clone())))),
        _ => Err(Value::error("ERR REPL TOKEN takes a token or nothing")),
    }
}

/// REPL LAST [READ].
pub(super) fn last(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    match words {
        [_, _] => Ok(Action::Inquire(Inquiry::Last)),
        [_, _, read] if is(read, "READ") => Ok(Action::Inquire(Inquiry::LastRead)),
        _ => Err(Value::error("ERR REPL LAST takes READ or nothing")),
    }
}

/// REPL RESOLVE receipt.
pub(super) fn resolve(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Inquire(Inquiry::Resolve(words[2].clone())))
}

/// REPL EXPLAIN.
pub(super) fn explain(context: &mut Context<'_>, _: &[Bytes]) -> Handled {
    let level = match context.session.level {
        ReadLevel::Lease => Consistency::Lease,
        ReadLevel::Bounded(age) => Consistency::Bounded(age),
        ReadLevel::Eventual => Consistency::Eventual,
        ReadLevel::Causal => Consistency::Causal,
        _ => Consistency::Strong,
    };
    let mode = mode_of(context.session, context.service);
    match context.service.backend.explain(&mode, level) {
        Ok(table) => say(Value::bulk(table.to_string().trim_end().to_owned())),
        Err(why) => Err(Value::error(format!("ERR {why}"))),
    }
}

/// The rest of the family, which later versions have.
pub(super) fn not_yet(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let name = words[1].to_ascii_uppercase();
    Err(quoting("ERR REPL ", &name, " is not supported by this strategy"))
}

/// Answers what only had to wait for the requests before it, or says what else to wait for.
pub(crate) fn answer(
    session: &mut Session,
    service: &Service,
    inquiry: Inquiry,
) -> Result<Value, Receipt> {
    let Some((cluster, secret)) = service.backend.seal() else {
        return Ok(Value::error("TRYAGAIN the cluster is being founded"));
    };
    Ok(match inquiry {
        Inquiry::Token(joined) => {
            if let Some(text) = joined {
                let opened = Token::open_text(&String::from_utf8_lossy(&text), &secret, cluster);
                let joined = match opened {
                    Ok(Token::Log(token)) => session.join(service, &token),
                    Ok(_) => Err("the token is of another strategy".to_owned()),
                    Err(why) => Err(why.to_string()),
                };
                if let Err(why) = joined {
                    return Ok(Value::error(format!("ERR {why}; the session is as it was")));
                }
            }
            match session.token(service) {
                Some(token) => Value::bulk(Token::Log(token).seal_text(&secret)),
                None => Value::Null,
            }
        }
        Inquiry::Last => session.last.as_ref().map_or(Value::Null, |last| shown(last, &secret)),
        Inquiry::LastRead => session.served.as_ref().map_or(Value::Null, served),
        Inquiry::Resolve(text) => {
            match Receipt::open_text(&String::from_utf8_lossy(&text), &secret, cluster) {
                Ok(receipt) => return Err(receipt),
                Err(why) => Value::error(format!("ERR {why}")),
            }
        }
    })
}

fn served(served: &Served) -> Value {
    let number = |number: u64| Value::Integer(number as i64);
    let age = served.age.map(|age| age.as_nanos().div_ceil(1_000_000) as u64);
    let fields = [
        ("server", number(served.server.0)),
        ("level", Value::bulk(level_name(served.level))),
        ("age-ms", age.map_or(Value::Null, number)),
        ("term", number(served.at.term)),
        ("index", number(served.at.index)),
    ];
    Value::Map(fields.into_iter().map(|(name, value)| (Value::bulk(name), value)).collect())
}

fn shown(last: &super::session::LastWrite, secret: &ClusterSecret) -> Value {
    let text = |text: &'static str| Value::bulk(text);
    let nodes = |ids: &std::collections::BTreeSet<NodeId>| {
        Value::Array(ids.iter().map(|id| Value::Integer(id.0 as i64)).collect())
    };
    let (receipt, report) = (&last.receipt, &last.report);
    Value::Map(vec![
        (text("receipt"), Value::bulk(Receipt::Log(*receipt).seal_text(secret))),
        (text("committed"), Value::Integer(i64::from(report.committed))),
        (text("term"), Value::Integer(receipt.at.term as i64)),
        (text("index"), Value::Integer(receipt.at.index as i64)),
        (text("durable"), nodes(&report.durable)),
        (text("applied"), nodes(&report.applied)),
    ])
}

/// Tells what became of a write.
pub(crate) async fn fate(service: Arc<Service>, receipt: Receipt) -> Value {
    match service.backend.resolve(&receipt).await {
        Ok(fate) => Value::bulk(fate.to_string()),
        Err(leader::ResolveError::Read(error)) => read_failure(&error),
        Err(error) => Value::error(format!("ERR {error}")),
    }
}
