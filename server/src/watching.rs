//! `tercet watch`: the change feed in a terminal, going on at another node where one ends.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::admin::Address;
use crate::client::http::{HttpError, request};
use crate::client::lines::Lines;
use crate::http::authorization;

/// How long a line may take: a node says once a second how far it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a hold is moved to where the output is.
const RENEW: Duration = Duration::from_secs(10);
/// How long to wait before the next node is asked.
const PAUSE: Duration = Duration::from_millis(200);
/// How often each node is asked in vain before it is given up.
const ROUNDS: usize = 25;
/// The variable with the password.
const PASSWORD: &str = "TERCET_PASSWORD";

/// What `tercet watch` is told.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    address: Address,
    /// Where to begin: start, now, or the last position that was seen.
    #[arg(long, default_value = "now")]
    from: String,
    /// Only keys that begin so.
    #[arg(long, default_value = "")]
    prefix: String,
    /// End after so many entries.
    #[arg(long)]
    count: Option<u64>,
    /// Also print how far the feed is when nothing has changed.
    #[arg(long)]
    progress: bool,
    /// Keep the node's log for this watcher under this name, also while it is away for an hour.
    #[arg(long, value_name = "NAME")]
    hold: Option<String>,
    /// The user to watch as; the password is taken from the variable TERCET_PASSWORD.
    #[arg(long)]
    user: Option<String>,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchEnded {
    /// A node refuses, or changes are missing.
    #[error("{0}")]
    Refused(String),
    /// No node answers.
    #[error("no node answers any more ({last}); go on later with --from {from}")]
    Silent {
        /// What the last one did.
        last: String,
        /// Where to go on.
        from: String,
    },
    /// Nobody reads the output.
    #[error("the output cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

struct Watching<'a> {
    arguments: &'a Arguments,
    from: String,
    left: Option<u64>,
    held: Option<tokio::time::Instant>,
}

/// What a node's lines ended with.
enum End {
    /// All that was asked for is there.
    Done,
    /// The node went away: another one may go on.
    Away(String),
}

/// Prints the feed until it ends.
pub async fn watch(arguments: &Arguments) -> Result<(), WatchEnded> {
    let (from, left) = (arguments.from.clone(), arguments.count);
    let mut watching = Watching { arguments, from, left, held: None };
    let addresses = &arguments.address.address;
    let mut vain = 0;
    for address in addresses.iter().cycle() {
        let before = watching.from.clone();
        let last = match watching.at(address).await? {
            End::Done => return Ok(()),
            End::Away(last) => last,
        };
        vain = if watching.from == before { vain + 1 } else { 0 };
        if vain >= ROUNDS * addresses.len() {
            return Err(WatchEnded::Silent { last, from: watching.from });
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

impl Watching<'_> {
    /// Watches at one node.
    async fn at(&mut self, address: &str) -> Result<End, WatchEnded> {
        let path = format!("/watch?from={}&prefix={}", self.from, escaped(&self.arguments.prefix));
        let password = std::env::var(PASSWORD).unwrap_or_default();
        let user = self.arguments.user.as_ref().map(|name| authorization(name, &password));
        let mut lines = match Lines::get(address, &path, user.as_deref(), PATIENCE).await {
            Ok(Ok(lines)) => lines,
            Ok(Err(answer)) if answer.code == 503 => return Ok(End::Away(answer.body)),
            Ok(Err(answer)) => return Err(WatchEnded::Refused(problem(&answer.body))),
            Err(error) => return Ok(End::Away(error.to_string())),
        };
        self.held = None;
        while self.left != Some(0) {
            match lines.next().await {
                Ok(Some(line)) => {
                    if let Some(away) = self.take(&line)? {
                        return Ok(End::Away(away));
                    }
                    self.renew(address).await?;
                }
                Ok(None) => return Ok(End::Away(format!("{address} ended the feed"))),
                Err(error) => return Ok(End::Away(error.to_string())),
            }
        }
        Ok(End::Done)
    }

    /// Takes a line; why the node sends no more, where another may.
    fn take(&mut self, line: &str) -> Result<Option<String>, WatchEnded> {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        if let Some(error) = value["error"].as_str() {
            if value.get("oldest").is_none() && error.contains("stopping") {
                return Ok(Some(error.to_owned()));
            }
            return Err(WatchEnded::Refused(error.to_owned()));
        }
        let at = value["position"].as_str();
        if at.is_some() || self.arguments.progress {
            writeln!(std::io::stdout(), "{line}")?;
        }
        if at.is_some() {
            self.left = self.left.map(|left| left - 1);
        }
        if let Some(at) = at.or_else(|| value["progress"].as_str()) {
            at.clone_into(&mut self.from);
        }
        Ok(None)
    }

    /// Moves the hold to what is printed.
    async fn renew(&mut self, address: &str) -> Result<(), WatchEnded> {
        let Some(name) = &self.arguments.hold else { return Ok(()) };
        let now = tokio::time::Instant::now();
        if self.held.is_some_and(|held| now < held + RENEW) || !self.from.contains('.') {
            return Ok(());
        }
        let (path, body) = (format!("/holds/{}", escaped(name)), json!({ "after": self.from }));
        let answer: Result<_, HttpError> =
            request(address, "POST", &path, Some(&body.to_string()), PATIENCE).await;
        match answer {
            Ok(answer) if answer.code != 200 => Err(WatchEnded::Refused(problem(&answer.body))),
            // A node that is away is noticed by its lines.
            _ => {
                self.held = Some(now);
                Ok(())
            }
        }
    }
}

fn problem(body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    if value["error"].is_string() {
        format!("{}; {}", text("error"), text("hint"))
    } else {
        body.trim().to_owned()
    }
}

/// Text as part of a path.
fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(byte);
    let each = |byte: u8| {
        if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_escaped() {
        assert_eq!(escaped("user:7/\u{e9} &"), "user:7%2F%C3%A9%20%26");
    }
}
