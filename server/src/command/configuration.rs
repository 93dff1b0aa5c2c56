//! CONFIG: what clients look up, and why they cannot change it here.

use bytes::Bytes;

use super::arguments::{is, quoting, wrong_number};
use super::{Context, Handled, ok, say};
use crate::redis::matches;
use crate::resp::Value;
use crate::service::{Service, wall_clock};

/// Redis's names for what holds here: writes are logged and synced before they are acknowledged,
/// nothing is evicted, there is one database.
const SETTINGS: [(&str, &str); 15] = [
    ("appendfsync", "always"),
    ("appendonly", "yes"),
    ("bind", "*"),
    ("cluster-enabled", "no"),
    ("databases", "1"),
    ("dbfilename", ""),
    ("hz", "10"),
    ("io-threads", "1"),
    ("lazyfree-lazy-user-flush", "yes"),
    ("maxmemory-policy", "noeviction"),
    ("notify-keyspace-events", ""),
    ("requirepass", ""),
    ("save", ""),
    ("slowlog-max-len", "0"),
    ("tcp-keepalive", "0"),
];

/// All settings with their values here, in the order of their names.
fn settings(service: &Service) -> Vec<(&'static str, String)> {
    let (identity, limits) = (service.identity(), &service.limits);
    let own = [
        ("maxmemory", service.backend.standing().quota.bytes.hard.unwrap_or(0).to_string()),
        ("maxclients", limits.connections.to_string()),
        ("port", identity.address(identity.node).1.to_string()),
        ("proto-max-bulk-len", limits.request_bytes.to_string()),
        // In whole seconds, where 0 is never.
        ("timeout", limits.idle.map_or(0, |idle| idle.as_secs().max(1)).to_string()),
    ];
    let fixed = SETTINGS.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let mut settings: Vec<_> = fixed.chain(own).collect();
    settings.sort();
    settings
}

/// CONFIG GET pattern [pattern ...].
pub(super) fn get(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let found = settings(context.service).into_iter().filter_map(|(name, value)| {
        let asked = |pattern: &&Bytes| matches(&pattern.to_ascii_lowercase(), name.as_bytes());
        let pattern = words[2..].iter().find(asked)?;
        // A name without a pattern in it comes back as the client wrote it.
        let name = if is(pattern, name) { pattern.clone() } else { name.into() };
        Some((Value::Bulk(name), Value::bulk(value)))
    });
    say(Value::Map(found.collect()))
}

/// CONFIG SET name value [name value ...]: only what is so already.
pub(super) fn set(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (pairs, rest) = words[2..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong_number("config|set"));
    }
    let settings = settings(context.service);
    for [name, value] in pairs {
        let Some((known, current)) = settings.iter().find(|(known, _)| is(name, known)) else {
            return Err(quoting(
                "ERR Unknown option or number of arguments for CONFIG SET - '",
                name,
                "'",
            ));
        };
        if !value.eq_ignore_ascii_case(current.as_bytes()) {
            return Err(Value::error(format!(
                "ERR CONFIG SET failed (possibly related to argument '{known}') - it is fixed to \
                 '{current}' here; see `tercet node --print-config` for what can be configured"
            )));
        }
    }
    ok()
}

/// CONFIG REWRITE.
pub(super) fn rewrite(_: &mut Context<'_>, _: &[Bytes]) -> Handled {
    Err(Value::error("ERR the configuration file is never written by the server; edit it yourself"))
}

/// CONFIG RESETSTAT. Counters are exported and must only grow: they are left as they are.
pub(super) fn resetstat(_: &mut Context<'_>, _: &[Bytes]) -> Handled {
    ok()
}

/// TIME.
pub(super) fn time(_: &mut Context<'_>, _: &[Bytes]) -> Handled {
    let now = wall_clock();
    say(Value::Array(vec![
        Value::bulk(now.as_secs().to_string()),
        Value::bulk(now.subsec_micros().to_string()),
    ]))
}
