//! What a connection begins and ends with: HELLO, AUTH, SELECT, PING, RESET, QUIT.

use std::time::Duration;

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
            [user, password, rest @ ..] if is(option, "AUTH") => {
                if let Some(wrong) = authenticate(context, user, password) {
                    return Ok(wrong);
                }
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
    if context.session.user.is_none() {
        return Err(Value::error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
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

/// Names the connection's user, or says what to answer instead: later each time, so that guessing
/// is slow. A connection that was somebody stays who it was.
fn authenticate(context: &mut Context<'_>, user: &[u8], password: &[u8]) -> Option<Action> {
    let session = &mut *context.session;
    if let Some(user) = context.service.users.check(user, password) {
        session.client.shown().user.clone_from(&user.name);
        (session.user, session.wrong_passwords) = (Some(user), 0);
        return None;
    }
    let delay = WRONG * 2_u32.saturating_pow(session.wrong_passwords.min(4));
    session.wrong_passwords += 1;
    let text = "WRONGPASS invalid username-password pair or user is disabled.";
    let open = context.service.users.is_open();
    Some(if open {
        Action::Reply(Value::error(text))
    } else {
        Action::Later(delay, Value::error(text))
    })
}

/// How late the first wrong password is answered.
const WRONG: Duration = Duration::from_millis(100);

/// AUTH [user] password.
pub(super) fn auth(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    match words {
        [_, password] if !context.service.users.is_open() => {
            authenticate(context, b"default", password).map_or_else(ok, Ok)
        }
        [_, _password] => Err(Value::error(
            "ERR AUTH <password> called without any password configured for the default user. Are \
             you sure your configuration is correct?",
        )),
        [_, user, password] => authenticate(context, user, password).map_or_else(ok, Ok),
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
    context.session.reset(&context.service.users);
    say(Value::Simple("RESET"))
}
