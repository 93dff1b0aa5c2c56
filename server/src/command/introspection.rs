//! COMMAND and the HELP of each family: the table, as clients read it.

use bytes::Bytes;

use super::arguments::{is, syntax};
use super::table::{COMMANDS, KeySpec, Spec, by_name, by_words};
use super::{Context, Handled, say};
use crate::redis::matches;
use crate::resp::Value;

/// COMMAND.
pub(super) fn all(_: &mut Context<'_>, _: &[Bytes]) -> Handled {
    say(Value::Array(COMMANDS.iter().map(described).collect()))
}

/// COMMAND COUNT.
pub(super) fn count(_: &mut Context<'_>, _: &[Bytes]) -> Handled {
    say(Value::Integer(COMMANDS.len() as i64))
}

/// COMMAND INFO [name ...].
pub(super) fn some(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    match &words[2..] {
        [] => all(context, words),
        names => {
            let found = names.iter().map(|name| named(name).map_or(Value::Null, described));
            say(Value::Array(found.collect()))
        }
    }
}

/// COMMAND DOCS [name ...].
pub(super) fn docs(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let pairs = match &words[2..] {
        [] => COMMANDS.iter().map(documented).collect(),
        names => names.iter().filter_map(|name| named(name)).map(documented).collect(),
    };
    say(Value::Map(pairs))
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern].
pub(super) fn list(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let every = COMMANDS.iter().flat_map(|spec| std::iter::once(spec).chain(spec.family));
    let chosen: Vec<_> = match &words[2..] {
        [] => COMMANDS.iter().collect(),
        [by, filter, value] if is(by, "FILTERBY") => {
            if is(filter, "MODULE") {
                Vec::new()
            } else if is(filter, "ACLCAT") {
                let wanted = [b"@", &*value.to_ascii_lowercase()].concat();
                every
                    .filter(|spec| categories(spec).iter().any(|c| c.as_bytes() == wanted))
                    .collect()
            } else if is(filter, "PATTERN") {
                let pattern = value.to_ascii_lowercase();
                every.filter(|spec| matches(&pattern, spec.name.as_bytes())).collect()
            } else {
                return Err(syntax());
            }
        }
        _ => return Err(syntax()),
    };
    say(Value::Array(chosen.into_iter().map(|spec| Value::bulk(spec.name)).collect()))
}

/// COMMAND GETKEYS name [argument ...].
pub(super) fn getkeys(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let command = &words[2..];
    let spec = by_words(command).map_err(|_| Value::error("ERR Invalid command specified"))?;
    if spec.keys.is_empty() {
        return Err(Value::error("ERR The command has no key arguments"));
    }
    if !spec.takes(command.len()) {
        return Err(Value::error("ERR Invalid number of arguments specified for command"));
    }
    let mut keys = Vec::new();
    for part in spec.keys {
        if part.counted {
            keys.extend(counted_keys(command, part.first)?);
            continue;
        }
        let last = match part.last {
            last @ ..0 => command.len() as i32 + last,
            last => part.first + last,
        };
        let places = (part.first..=last).step_by(part.step as usize);
        keys.extend(places.filter_map(|place| command.get(place as usize)).cloned());
    }
    say(Value::Array(keys.into_iter().map(Value::Bulk).collect()))
}

/// The keys behind their number.
fn counted_keys(command: &[Bytes], at: i32) -> Result<Vec<Bytes>, Value> {
    let invalid = || Value::error("ERR Invalid arguments specified for command");
    let at = at as usize;
    let number = command.get(at).and_then(|word| crate::resp::parse_i64(word));
    let number = number.and_then(|number| usize::try_from(number).ok()).filter(|n| *n > 0);
    let keys = command.get(at + 1..at + 1 + number.ok_or_else(invalid)?.min(command.len()));
    keys.map(<[Bytes]>::to_vec).ok_or_else(invalid)
}

/// The HELP of a family.
pub(super) fn help(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let Some(spec) = by_name(&words[0], COMMANDS) else { return Err(syntax()) };
    let family = spec.name.to_ascii_uppercase();
    let mut lines =
        vec![Value::bulk(format!("{family} <subcommand> [<argument> ...]. Subcommands are:"))];
    for member in spec.family {
        lines.push(Value::bulk(member.last_name().to_ascii_uppercase()));
        lines.push(Value::bulk(format!("    {}.", member.summary)));
    }
    say(Value::Array(lines))
}

/// A command, or a subcommand as `client|id`.
fn named(name: &[u8]) -> Option<&'static Spec> {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let spec = by_name(parts.next()?, COMMANDS)?;
    match parts.next() {
        None => Some(spec),
        Some(part) => by_name(part, spec.family),
    }
}

/// The ten fields of COMMAND INFO.
fn described(spec: &'static Spec) -> Value {
    let words = |words: &[&'static str]| words.iter().map(|word| Value::Simple(word)).collect();
    let (first, last, step) = match spec.keys {
        [] => (0, 0, 0),
        [only] if only.counted => (0, 0, 0),
        [only] if only.last < 0 => (only.first, only.last, only.step),
        [first, .., last] if last.last < 0 => (first.first, last.last, first.step),
        [first, .., last] | [first @ last] => (first.first, last.first + last.last, first.step),
    };
    Value::Array(vec![
        Value::bulk(spec.name),
        Value::Integer(i64::from(spec.arity)),
        Value::Set(words(spec.flags)),
        Value::Integer(i64::from(first)),
        Value::Integer(i64::from(last)),
        Value::Integer(i64::from(step)),
        Value::Set(words(&categories(spec))),
        Value::Set(spec.tips.iter().map(|tip| Value::bulk(*tip)).collect()),
        Value::Set(spec.keys.iter().map(described_keys).collect()),
        Value::Set(spec.family.iter().map(described).collect()),
    ])
}

fn described_keys(keys: &KeySpec) -> Value {
    let text = |text: &'static str| Value::bulk(text);
    let number = |number: i32| Value::Integer(i64::from(number));
    let typed =
        |kind, spec| Value::Map(vec![(text("type"), text(kind)), (text("spec"), Value::Map(spec))]);
    let mut pairs = Vec::new();
    if !keys.notes.is_empty() {
        pairs.push((text("notes"), text(keys.notes)));
    }
    let flags = keys.flags.iter().map(|flag| Value::Simple(flag)).collect();
    pairs.push((text("flags"), Value::Set(flags)));
    let begin = vec![(text("index"), number(keys.first))];
    pairs.push((text("begin_search"), typed("index", begin)));
    if keys.counted {
        let find = vec![
            (text("keynumidx"), number(0)),
            (text("firstkey"), number(1)),
            (text("keystep"), number(1)),
        ];
        pairs.push((text("find_keys"), typed("keynum", find)));
        return Value::Map(pairs);
    }
    let find = vec![
        (text("lastkey"), number(keys.last)),
        (text("keystep"), number(keys.step)),
        (text("limit"), number(0)),
    ];
    pairs.push((text("find_keys"), typed("range", find)));
    Value::Map(pairs)
}

/// A command's categories, in the order in which Redis lists them.
pub(super) fn categories(spec: &Spec) -> Vec<&'static str> {
    const ORDER: [&str; 15] = [
        "@keyspace",
        "@read",
        "@write",
        "@string",
        "@hash",
        "@set",
        "@sortedset",
        "@list",
        "@admin",
        "@fast",
        "@slow",
        "@blocking",
        "@dangerous",
        "@connection",
        "@transaction",
    ];
    let mut these = spec.categories.to_vec();
    let family_only = spec.handler.is_none();
    match spec.group {
        // WAIT is among the generic commands without touching a key.
        "generic" if !family_only && spec.name != "wait" => these.push("@keyspace"),
        "string" => these.push("@string"),
        "hash" => these.push("@hash"),
        "list" => these.push("@list"),
        "sorted-set" => these.push("@sortedset"),
        "set" => these.push("@set"),
        "connection" if !family_only => these.push("@connection"),
        "transactions" => these.push("@transaction"),
        _ => {}
    }
    for flag in spec.flags {
        match *flag {
            "readonly" => these.push("@read"),
            "write" => these.push("@write"),
            "admin" => these.extend(["@admin", "@dangerous"]),
            _ => {}
        }
    }
    these.push(if spec.flags.contains(&"fast") { "@fast" } else { "@slow" });
    ORDER.into_iter().filter(|category| these.contains(category)).collect()
}

fn documented(spec: &'static Spec) -> (Value, Value) {
    let text = |text: &'static str| Value::bulk(text);
    let mut facts = vec![
        (text("summary"), text(spec.summary)),
        (text("since"), text(spec.since)),
        (text("group"), text(spec.group)),
    ];
    if !spec.family.is_empty() {
        let family = spec.family.iter().map(documented).collect();
        facts.push((text("subcommands"), Value::Map(family)));
    }
    (text(spec.name), Value::Map(facts))
}
