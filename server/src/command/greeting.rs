//! What a connection begins and ends with: HELLO, AUTH, SELECT, PING, RESET, QUIT.

use bytes::Bytes;
use leader::Role;

use super::arguments::{database, is, quoting, syntax};
use super::client::check_name;
use super::{Action, Context, Handled, ok, say};
use crate::resp::{Value, Version, parse_i64};

/// The release of Redis whose replies are given, for clients that look for features.
pub(super) const COMPATIBLE_WITH: &str = "7.0.15";

/// HELLO [version [AUTH user password] [SETNAME name]].
pub(super) fn hello(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let mut version = context.session.version;
    if let Some(word) = words.get(1) {
        version = match parse_i64(word) {
            Some(2) => Version::V2,
            Some(3) => Version::V3,
            Some(_) => return Err(Value::error("NOPROTO unsupported protocol version")),
            None => {
                return Err(Value::error("ERR Protocol version is not an integer or out of range"));
            }
        };
    }
    let mut name = None;
    let mut options = words.get(2..).unwrap_or_default();
    while let [option, rest @ ..] = options {
        options = match rest {
            [user, _password, rest @ ..] if is(option, "AUTH") => {
                authenticate(user)?;
                rest
            }
            [given, rest @ ..] if is(option, "SETNAME") => {
                check_name(given)?;
                name = Some(given);
                rest
            }
            _ => return Err(quoting("ERR Syntax error in HELLO option '", option, "'")),
        };
    }
    if let Some(name) = name {
        context.session.client.shown().name = Bytes::copy_from_slice(name);
    }
    context.session.speak(version);
    let number = if version == Version::V3 { 3 } else { 2 };
    let role = match context.service.backend.standing().role {
        Role::Leader => "master",
        _ => "replica",
    };
    let text = |text: &'static str| Value::bulk(text);
    say(Value::Map(vec![
        (text("server"), text("redis")),
        (text("version"), text(COMPATIBLE_WITH)),
        (text("proto"), Value::Integer(number)),
        (text("id"), Value::Integer(context.session.client.id as i64)),
        (text("mode"), text("standalone")),
        (text("role"), text(role)),
        (text("modules"), Value::Array(Vec::new())),
    ]))
}

/// The only user is `default`, and no password is set for it: any will do, as in Redis.
fn authenticate(user: &[u8]) -> Result<(), Value> {
    if user == b"default" {
        return Ok(());
    }
    Err(Value::error("WRONGPASS invalid username-password pair or user is disabled."))
}

/// AUTH [user] password.
pub(super) fn auth(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    match words {
        [_, _password] => Err(Value::error(
            "ERR AUTH <password> called without any password configured for the default user. Are \
             you sure your configuration is correct?",
        )),
        [_, user, _password] => {
            authenticate(user)?;
            ok()
        }
        _ => Err(syntax()),
    }
}

/// SELECT 0.
pub(super) fn select(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    database(&words[1])?;
    ok()
}

/// PING [message].
pub(super) fn ping(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    match words {
        [_] => say(Value::Simple("PONG")),
        [_, message] => say(Value::Bulk(message.clone())),
        _ => Err(super::arguments::wrong_number("ping")),
    }
}

/// ECHO message.
pub(super) fn echo(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    say(Value::Bulk(words[1].clone()))
}

/// QUIT.
pub(super) fn quit(_: &mut Context<'_>, _: &[Bytes]) -> Handled {
    Ok(Action::Close(Value::OK))
}

/// RESET.
pub(super) fn reset(context: &mut Context<'_>, _: &[Bytes]) -> Handled {
    context.session.reset();
    say(Value::Simple("RESET"))
}
