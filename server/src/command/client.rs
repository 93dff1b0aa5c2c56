//! CLIENT: what a connection says of itself, and what it asks of others.

use std::sync::Arc;

use bytes::Bytes;

use super::arguments::{is, quoting, syntax};
use super::session::Replies;
use super::{Action, Context, Handled, ok, say};
use crate::clients::Client;
use crate::resp::{Value, parse_i64};

/// CLIENT ID.
pub(super) fn id(context: &mut Context<'_>, _: &[Bytes]) -> Handled {
    say(Value::Integer(context.session.client.id as i64))
}

/// CLIENT GETNAME.
pub(super) fn getname(context: &mut Context<'_>, _: &[Bytes]) -> Handled {
    let name = context.session.client.shown().name.clone();
    say(if name.is_empty() { Value::Null } else { Value::Bulk(name) })
}

/// CLIENT SETNAME name.
pub(super) fn setname(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    check_name(&words[2])?;
    // A copy: the word shares memory with all that was read along with it.
    context.session.client.shown().name = Bytes::copy_from_slice(&words[2]);
    ok()
}

/// A name is shown in a list: it must not break the line.
pub(super) fn check_name(name: &[u8]) -> Result<(), Value> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err(Value::error("ERR Client names cannot contain spaces, newlines or special characters."))
}

/// CLIENT SETINFO LIB-NAME name | LIB-VER version.
pub(super) fn setinfo(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (attribute, value) = (&words[2], &words[3]);
    let (name, version) = (is(attribute, "LIB-NAME"), is(attribute, "LIB-VER"));
    if !name && !version {
        return Err(quoting("ERR Unrecognized option '", attribute, "'"));
    }
    if !value.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        let name = if name { "lib-name" } else { "lib-ver" };
        return Err(Value::error(format!(
            "ERR {name} cannot contain spaces, newlines or special characters."
        )));
    }
    let value = Bytes::copy_from_slice(value);
    let mut shown = context.session.client.shown();
    if name {
        shown.library = value;
    } else {
        shown.library_version = value;
    }
    drop(shown);
    ok()
}

/// CLIENT INFO.
pub(super) fn info(context: &mut Context<'_>, _: &[Bytes]) -> Handled {
    let client = &context.session.client;
    client.touch(context.session.command);
    say(Value::Verbatim((client.line() + "\n").into()))
}

/// CLIENT LIST [TYPE type] [ID id ...].
pub(super) fn list(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let all = context.service.clients.all();
    context.session.client.touch(context.session.command);
    let listed: Vec<Arc<Client>> = match &words[2..] {
        [] => all,
        [option, kind] if is(option, "TYPE") => {
            if normal(kind)? {
                all
            } else {
                Vec::new()
            }
        }
        [option, ids @ ..] if is(option, "ID") && !ids.is_empty() => {
            let mut listed = Vec::new();
            for word in ids {
                let id = parse_i64(word).ok_or_else(|| Value::error("ERR Invalid client ID"))?;
                listed.extend(all.iter().find(|client| client.id as i64 == id).cloned());
            }
            listed
        }
        _ => return Err(syntax()),
    };
    let lines: String = listed.iter().map(|client| client.line() + "\n").collect();
    say(Value::Verbatim(lines.into()))
}

/// Whether a type of clients is that of ordinary ones: there are no others here.
fn normal(kind: &[u8]) -> Result<bool, Value> {
    let names = ["normal", "master", "slave", "replica", "pubsub"];
    if names.into_iter().any(|name| is(kind, name)) {
        return Ok(is(kind, "normal"));
    }
    Err(quoting("ERR Unknown client type '", kind, "'"))
}

/// CLIENT KILL address | [ID id] [ADDR address] [LADDR address] [TYPE type] [USER user] [SKIPME ..].
pub(super) fn kill(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let own = context.session.client.id;
    let all = context.service.clients.all();
    if let [_, _, address] = words {
        let found = all.iter().find(|client| client.peer.as_bytes() == address.as_ref());
        let Some(client) = found else { return Err(Value::error("ERR No such client")) };
        client.kill();
        return if client.id == own { Ok(Action::Close(Value::OK)) } else { ok() };
    }
    let (filters, rest) = words[2..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(syntax());
    }
    let mut skip_me = true;
    let mut chosen = all;
    for [option, value] in filters {
        if is(option, "ID") {
            let id = parse_i64(value).filter(|id| *id > 0);
            let id = id.ok_or_else(|| Value::error("ERR client-id should be greater than 0"))?;
            chosen.retain(|client| client.id as i64 == id);
        } else if is(option, "ADDR") {
            chosen.retain(|client| client.peer.as_bytes() == value.as_ref());
        } else if is(option, "LADDR") {
            chosen.retain(|client| client.local.as_bytes() == value.as_ref());
        } else if is(option, "TYPE") {
            let normal = normal(value)?;
            chosen.retain(|_| normal);
        } else if is(option, "USER") {
            if value.as_ref() != b"default" {
                return Err(quoting("ERR No such user '", value, "'"));
            }
        } else if is(option, "SKIPME") && (is(value, "yes") || is(value, "no")) {
            skip_me = is(value, "yes");
        } else {
            return Err(syntax());
        }
    }
    chosen.retain(|client| !(skip_me && client.id == own));
    let count = Value::Integer(chosen.len() as i64);
    let mut me = false;
    for client in chosen {
        me |= client.id == own;
        if client.id != own {
            client.kill();
        }
    }
    if me { Ok(Action::Close(count)) } else { say(count) }
}

/// CLIENT NO-EVICT and NO-TOUCH on | off. Clients are never evicted and reads never recorded.
pub(super) fn harmless_switch(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    if is(&words[2], "ON") || is(&words[2], "OFF") { ok() } else { Err(syntax()) }
}

/// CLIENT REPLY ON | OFF | SKIP.
pub(super) fn reply(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let replies = &mut context.session.replies;
    if is(&words[2], "ON") {
        *replies = Replies::On;
        ok()
    } else if is(&words[2], "OFF") {
        *replies = Replies::Off;
        Ok(Action::Nothing)
    } else if is(&words[2], "SKIP") {
        if *replies != Replies::Off {
            *replies = Replies::SkipNext;
        }
        Ok(Action::Nothing)
    } else {
        Err(syntax())
    }
}

/// CLIENT TRACKING on | off. A client that caches must not believe that it is told of changes.
pub(super) fn tracking(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    if is(&words[2], "OFF") {
        return ok();
    }
    if is(&words[2], "ON") {
        return Err(Value::error(
            "ERR client-side caching is not supported: this version tells nobody of changes",
        ));
    }
    Err(syntax())
}

/// CLIENT GETREDIR.
pub(super) fn getredir(_: &mut Context<'_>, _: &[Bytes]) -> Handled {
    say(Value::Integer(-1))
}

/// CLIENT TRACKINGINFO.
pub(super) fn trackinginfo(_: &mut Context<'_>, _: &[Bytes]) -> Handled {
    say(Value::Map(vec![
        (Value::bulk("flags"), Value::Set(vec![Value::bulk("off")])),
        (Value::bulk("redirect"), Value::Integer(-1)),
        (Value::bulk("prefixes"), Value::Array(Vec::new())),
    ]))
}
