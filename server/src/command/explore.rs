//! Reads of many keys at once, in pages, so that a large state delays nobody else.

use bytes::Bytes;
use common::storage::engine::EngineError;
use common::token::LogToken;
use leader::ReadLevel;
use leader::error::ReadError;

use super::{info, read_failure};
use crate::redis::{Cut, MAX_REPLY_BYTES, matches};
use crate::resp::{Decimal, Value};
use crate::service::{Service, wall_clock};

/// A read that takes a cut of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exploration {
    /// SCAN.
    Scan {
        /// Where to go on.
        cursor: u64,
        /// What keys must match.
        pattern: Option<Bytes>,
        /// About how many keys to look at.
        count: usize,
        /// The name of the type that keys must have.
        kind: Option<Bytes>,
    },
    /// KEYS.
    Keys {
        /// What keys must match.
        pattern: Bytes,
    },
    /// RANDOMKEY.
    Any,
    /// INFO.
    Info {
        /// The sections.
        sections: Vec<&'static str>,
    },
}

/// Keys that are looked at without letting other tasks run.
const STEP: usize = 256;
/// Most keys that one SCAN looks at, whatever its COUNT.
const MOST: usize = 100_000;

/// Answers a read of many keys.
pub(crate) async fn explore(
    service: &Service,
    level: ReadLevel,
    token: Option<LogToken>,
    read: Exploration,
) -> Value {
    // What INFO says of the keys is no reason to fail without a majority.
    let level = match read {
        Exploration::Info { .. } => ReadLevel::Eventual,
        _ => level,
    };
    let view = match service.backend.view(level, token).await {
        Ok(view) => view,
        Err(error) => return read_failure(&error),
    };
    let answer = match Cut::open(&view, view.clock, view.now) {
        Ok(cut) => explore_cut(service, &cut, read).await,
        Err(error) => Err(error),
    };
    answer.unwrap_or_else(|error| read_failure(&ReadError::Engine(error)))
}

async fn explore_cut(
    service: &Service,
    cut: &Cut<'_>,
    read: Exploration,
) -> Result<Value, EngineError> {
    match read {
        Exploration::Scan { cursor, pattern, count, kind } => {
            let (mut cursor, mut left) = (cursor, count.min(MOST));
            let mut keys = Vec::new();
            loop {
                let step = left.min(STEP);
                let found = cut.scan(cursor, step)?;
                cursor = found.next;
                left -= step;
                let wanted = |name: &str| {
                    kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case(name.as_bytes()))
                };
                let of_kind = found.keys.into_iter().filter(|(_, kind)| wanted(kind.name()));
                keys.extend(
                    of_kind
                        .map(|(key, _)| key)
                        .filter(|key| pattern.as_ref().is_none_or(|pattern| matches(pattern, key))),
                );
                if cursor == 0 || left == 0 {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let next = Value::bulk(unsigned(cursor));
            let keys = keys.into_iter().map(Value::Bulk).collect();
            Ok(Value::Array(vec![next, Value::Array(keys)]))
        }
        Exploration::Keys { pattern } => {
            let (mut cursor, mut keys, mut bytes) = (0, Vec::new(), 0);
            loop {
                let found = cut.scan(cursor, STEP)?;
                for (key, _) in found.keys {
                    if matches(&pattern, &key) {
                        bytes += key.len() + 32;
                        keys.push(Value::Bulk(key));
                    }
                }
                if bytes > MAX_REPLY_BYTES {
                    let limit = MAX_REPLY_BYTES >> 20;
                    return Ok(Value::error(format!(
                        "ERR the reply would be over {limit} MiB; use SCAN instead"
                    )));
                }
                cursor = found.next;
                if cursor == 0 {
                    return Ok(Value::Array(keys));
                }
                tokio::task::yield_now().await;
            }
        }
        Exploration::Any => Ok(Value::maybe(cut.any(random())?)),
        Exploration::Info { sections } => {
            Ok(Value::Verbatim(info::text(service, &sections, cut).into()))
        }
    }
}

/// The decimal form of a number that an `i64` may not hold.
fn unsigned(number: u64) -> Bytes {
    match i64::try_from(number) {
        Ok(number) => Bytes::copy_from_slice(Decimal::new(number).as_bytes()),
        Err(_) => number.to_string().into(),
    }
}

/// Some number: where RANDOMKEY begins need not be hard to guess.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(wall_clock())
}
