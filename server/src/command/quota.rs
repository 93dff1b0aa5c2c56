//! REPL QUOTA: how large the state is, and how large it may become.
//!
//! ```text
//! REPL QUOTA                              what there is, and the limits
//! REPL QUOTA SET limit n|none [limit ..]  soft-bytes, hard-bytes, soft-keys, hard-keys; others stay
//! ```

use bytes::Bytes;
use futures::FutureExt;
use leader::quota::Quota;

use super::arguments::{is, quoting, syntax};
use super::{Action, Context, Handled, say};
use crate::resp::{Value, parse_i64};

/// REPL QUOTA [SET limit n|none [limit n|none ...]].
pub(super) fn quota(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let standing = context.service.backend.standing();
    match &words[2..] {
        [] => say(shown(&standing)),
        [set, pairs @ ..] if is(set, "SET") && !pairs.is_empty() => {
            let mut quota = standing.quota;
            let (pairs, rest) = pairs.as_chunks::<2>();
            if !rest.is_empty() {
                return Err(syntax());
            }
            for [name, value] in pairs {
                *limit(&mut quota, name)? = amount(value)?;
            }
            Ok(Action::Ask(Box::new(move |_, service| {
                async move {
                    match service.backend.set_quota(quota).await {
                        Ok(()) => Value::OK.into(),
                        Err(error) => Value::error(format!("ERR {error}")).into(),
                    }
                }
                .boxed()
            })))
        }
        _ => Err(syntax()),
    }
}

fn limit<'q>(quota: &'q mut Quota, name: &Bytes) -> Result<&'q mut Option<u64>, Value> {
    let limits = [
        ("soft-bytes", &mut quota.bytes.soft),
        ("hard-bytes", &mut quota.bytes.hard),
        ("soft-keys", &mut quota.keys.soft),
        ("hard-keys", &mut quota.keys.hard),
    ];
    let found = limits.into_iter().find(|(known, _)| is(name, known)).map(|(_, limit)| limit);
    found.ok_or_else(|| {
        quoting("ERR no limit '", name, "': soft-bytes, hard-bytes, soft-keys or hard-keys")
    })
}

fn amount(value: &Bytes) -> Result<Option<u64>, Value> {
    if is(value, "none") {
        return Ok(None);
    }
    let number = parse_i64(value).and_then(|number| u64::try_from(number).ok());
    number.map(Some).ok_or_else(|| Value::error("ERR a limit is a whole number, or none"))
}

fn shown(standing: &crate::backend::Standing) -> Value {
    let number = |number: u64| Value::Integer(number.min(i64::MAX as u64) as i64);
    let maybe = |limit: Option<u64>| limit.map_or(Value::Null, number);
    let (usage, quota) = (standing.usage, standing.quota);
    let fields = [
        ("bytes", number(usage.bytes)),
        ("soft-bytes", maybe(quota.bytes.soft)),
        ("hard-bytes", maybe(quota.bytes.hard)),
        ("keys", number(usage.keys)),
        ("soft-keys", maybe(quota.keys.soft)),
        ("hard-keys", maybe(quota.keys.hard)),
        ("state", Value::bulk(format!("{:?}", quota.judge(usage)).to_lowercase())),
    ];
    Value::Map(fields.into_iter().map(|(name, value)| (Value::bulk(name), value)).collect())
}
