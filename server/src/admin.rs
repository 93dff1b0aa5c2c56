//! `tercet members`, `tercet transfer`, `tercet check` and `tercet rollbacks`: what the HTTP side offers, for a
//! terminal.

use std::fmt;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::http::{self, Answer, HttpError};
use crate::status::{self, CheckReport, LostReport, RollbackReport, aligned};

/// How long a change may take: a member that is to vote has to catch up first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whom to ask.
#[derive(Clone, Debug, Args)]
pub struct Address {
    /// HTTP address of any node, as host:port; repeat it in case one is down.
    #[arg(long, global = true, default_value = "127.0.0.1:8379")]
    pub address: Vec<String>,
}

/// What `tercet members` is told.
#[derive(Debug, Args)]
pub struct Members {
    #[command(flatten)]
    address: Address,
    #[command(subcommand)]
    change: Option<Change>,
}

/// A change of the members.
#[derive(Debug, Subcommand)]
enum Change {
    /// Add a member without a vote.
    Add {
        /// Its id, never used before in this cluster.
        id: u64,
        /// Where its peers reach it, as host:port.
        peer: String,
    },
    /// Give a member a vote once it follows closely.
    Promote {
        /// Its id.
        id: u64,
        #[command(flatten)]
        options: Options,
    },
    /// Remove a member.
    Remove {
        /// Its id.
        id: u64,
        #[command(flatten)]
        options: Options,
    },
    /// Put a new member in a voter's place. Goes on with a replacement that was begun.
    Replace {
        /// The id of the voter that goes.
        old: u64,
        /// The id of the member that comes, never used before in this cluster.
        new: u64,
        /// Where its peers reach it, as host:port.
        peer: String,
        #[command(flatten)]
        options: Options,
    },
    /// Take back a replacement that was begun.
    Abort,
    /// Set what the cluster knows of a member.
    Describe {
        /// Its id.
        id: u64,
        /// How much it is wanted as leader; 0 for only as the last resort.
        #[arg(long)]
        priority: Option<u8>,
        /// Whether clients do not find it, and it leads only as the last resort.
        #[arg(long)]
        hidden: Option<bool>,
        /// The region it stands in; empty for none.
        #[arg(long)]
        region: Option<String>,
        /// The rack it stands in; empty for none.
        #[arg(long)]
        rack: Option<String>,
    },
    /// Change the address of a member that answers from there already.
    Relocate {
        /// Its id.
        id: u64,
        /// Where its peers reach it now, as host:port.
        peer: String,
    },
}

/// What a change may do.
#[derive(Debug, Args)]
struct Options {
    /// How many seconds to wait for a member that does not follow closely enough for a vote.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
    /// A danger that is accepted; repeat it for more.
    #[arg(long, value_name = "DANGER", value_parser = ["region-majority", "rack-majority", "few-live"])]
    accept: Vec<String>,
}

impl Options {
    /// The body of a request that says them, too.
    fn with(&self, mut body: Value) -> Value {
        body["wait_seconds"] = self.wait.into();
        body["accept"] = self.accept.clone().into();
        body
    }
}

impl Change {
    fn body(&self) -> Value {
        match self {
            Self::Add { id, peer } => json!({ "add": { "id": id, "address": peer } }),
            Self::Promote { id, options } => options.with(json!({ "promote": id })),
            Self::Remove { id, options } => options.with(json!({ "remove": id })),
            Self::Replace { old, new, peer, options } => options
                .with(json!({ "replace": { "old": old, "new": { "id": new, "address": peer } } })),
            Self::Abort => json!({ "abort": {} }),
            Self::Describe { id, priority, hidden, region, rack } => {
                let mut body = json!({ "id": id });
                let said = [
                    ("priority", priority.map(Value::from)),
                    ("hidden", hidden.map(Value::from)),
                    ("region", region.clone().map(Value::from)),
                    ("rack", rack.clone().map(Value::from)),
                ];
                for (key, value) in said {
                    if let Some(value) = value {
                        body[key] = value;
                    }
                }
                json!({ "describe": body })
            }
            Self::Relocate { id, peer } => json!({ "relocate": { "id": id, "address": peer } }),
        }
    }
}

/// How often a change is sent to the next leader when the one that was asked has handed over.
const LEADERS: usize = 5;

/// What `tercet transfer` is told.
#[derive(Debug, Args)]
pub struct Transfer {
    #[command(flatten)]
    address: Address,
    /// The node that is to lead; without it, the voter that has most of the log.
    #[arg(long)]
    to: Option<u64>,
}

/// What `tercet check` is told.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    address: Address,
    /// How many seconds to wait for all nodes.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// What `tercet rollbacks` is told.
#[derive(Debug, Args)]
pub struct Rollbacks {
    #[command(flatten)]
    address: Address,
    #[command(subcommand)]
    what: Option<Rollback>,
}

/// What to do with a rollback file.
#[derive(Debug, Subcommand)]
enum Rollback {
    /// Show the commands of a file.
    Show {
        /// The file.
        name: String,
    },
    /// Write again what nobody has touched since it was lost.
    Replay {
        /// The file.
        name: String,
        /// Also write keys that are absent now: some may have been deleted since.
        #[arg(long)]
        absent_keys: bool,
    },
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No node answered.
    #[error("no node answered; name one by --address HOST:PORT of its HTTP side ({0})")]
    Silent(String),
    /// No node leads.
    #[error("no leader is known: an election, or no majority; nothing was changed, try again")]
    NoLeader,
    /// The node does not lead any more.
    #[error("{0}")]
    Moved(String),
    /// The node refused.
    #[error("{problem}; {hint}")]
    Refused {
        /// Why.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// Not all nodes have the same state, or not all have answered.
    #[error("{0}")]
    Unequal(String),
    /// The connection failed.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// An answer could not be read.
    #[error("the node's answer cannot be read: {0}")]
    Answer(String),
}

/// The HTTP address of the leader.
async fn leader(addresses: &[String]) -> Result<String, AdminError> {
    let report = status::collect(addresses).await.map_err(|silent| {
        AdminError::Silent(silent.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    let leads = |row: &&status::NodeRow| row.status.as_ref().is_some_and(|s| s.role == "leader");
    let found =
        report.nodes.iter().filter(leads).max_by_key(|row| row.status.as_ref().map(|s| s.term));
    found.map(|row| row.http.clone()).ok_or(AdminError::NoLeader)
}

fn value(answer: &Answer) -> Result<Value, AdminError> {
    let value: Value = serde_json::from_str(&answer.body)
        .map_err(|error| AdminError::Answer(format!("{error}: {}", answer.body)))?;
    if answer.code == 200 {
        return Ok(value);
    }
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    if answer.code == 421 {
        return Err(AdminError::Moved(text("error")));
    }
    Err(AdminError::Refused { problem: text("error"), hint: text("hint") })
}

async fn post(address: &str, path: &str, body: &Value) -> Result<Value, AdminError> {
    let answer = http::request(address, "POST", path, Some(&body.to_string()), PATIENCE).await?;
    value(&answer)
}

async fn get(address: &str, path: &str) -> Result<Value, AdminError> {
    value(&http::get(address, path, PATIENCE).await?)
}

fn row(cells: &[&dyn fmt::Display]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

/// Shows or changes the members, and returns what to print.
pub async fn members(arguments: &Members) -> Result<String, AdminError> {
    let addresses = &arguments.address.address;
    let mut answer = Err(AdminError::NoLeader);
    for _ in 0..LEADERS {
        let leader = leader(addresses).await?;
        answer = match &arguments.change {
            None => get(&leader, "/members").await,
            Some(change) => post(&leader, "/members", &change.body()).await,
        };
        // A leader that is to go hands over first; the next one does the rest.
        if !matches!(answer, Err(AdminError::Moved(_))) {
            break;
        }
    }
    let answer = answer?;
    let members: Vec<status::MemberReport> = serde_json::from_value(answer["members"].clone())
        .map_err(|error| AdminError::Answer(error.to_string()))?;
    let head = ["node", "votes", "peer address", "priority", "hidden", "region", "rack"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for member in members {
        let votes = if member.voter { "yes" } else { "no" };
        let hidden = if member.hidden { "yes" } else { "no" };
        let priority = member.priority.map_or_else(|| "-".to_owned(), |p| p.to_string());
        let text = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let (region, rack) = (text(member.region), text(member.rack));
        let cells = row(&[&member.id, &votes, &member.address, &priority, &hidden, &region, &rack]);
        rows.push(cells);
    }
    let mut lines = Vec::new();
    if let (Some(old), Some(new)) =
        (answer["replacing"]["old"].as_u64(), answer["replacing"]["new"].as_u64())
    {
        lines.push(format!(
            "node {new} is to take the place of node {old}: go on with `members replace`, or \
             `members abort`"
        ));
    }
    if let Some(next) = answer["next_id"].as_u64() {
        lines.push(format!("the next id is {next}"));
    }
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        lines.push(format!("warning: {}", warning.as_str().unwrap_or_default()));
    }
    let lines = lines.into_iter().map(|line| line + "\n");
    let shown = aligned(&rows) + &lines.collect::<String>();
    Ok(shown)
}

/// Hands leadership over, and returns what to print.
pub async fn transfer(arguments: &Transfer) -> Result<String, AdminError> {
    let leader = leader(&arguments.address.address).await?;
    let body = arguments.to.map_or_else(|| json!({}), |to| json!({ "to": to }));
    let answer = post(&leader, "/transfer", &body).await?;
    Ok(format!("node {} leads\n", answer["leader"]))
}

/// Has all nodes compare their states, and returns what to print. Anything but equality is an error.
pub async fn check(arguments: &Check) -> Result<String, AdminError> {
    let leader = leader(&arguments.address.address).await?;
    let body = json!({ "seconds": arguments.seconds }).to_string();
    let patience = PATIENCE + Duration::from_secs(arguments.seconds);
    let answer = http::request(&leader, "POST", "/check", Some(&body), patience).await?;
    let report: CheckReport = serde_json::from_value(value(&answer)?)
        .map_err(|error| AdminError::Answer(error.to_string()))?;
    let mut rows = vec![row(&[&"node", &"state", &""])];
    for (id, state) in &report.members {
        let state = state.as_deref().unwrap_or("-");
        let note = match () {
            () if report.differing.contains(id) => "differs: serves no reads until it is repaired",
            () if report.silent.contains(id) => "has not answered",
            () => "",
        };
        rows.push(row(&[id, &state, &note]));
    }
    let at = format!("position {} (term {})", report.index, report.term);
    let table = aligned(&rows);
    let records = report.records.unwrap_or_default();
    if !report.majority {
        let why = "no state has a majority, so nobody can say which is right";
        return Err(AdminError::Unequal(format!("{at}: {why}\n{table}")));
    }
    if !report.differing.is_empty() || !report.silent.is_empty() {
        return Err(AdminError::Unequal(format!("{at}: not all nodes are equal\n{table}")));
    }
    Ok(format!("{table}all nodes are equal at {at}: {records} records\n"))
}

/// Shows or replays rollback files, and returns what to print. They are the node's own: its first
/// address is asked.
pub async fn rollbacks(arguments: &Rollbacks) -> Result<String, AdminError> {
    let unread = |error: serde_json::Error| AdminError::Answer(error.to_string());
    let address = arguments.address.address.first().map_or("", String::as_str);
    match &arguments.what {
        None => {
            let answer = get(address, "/rollbacks").await?;
            let files: Vec<RollbackReport> =
                serde_json::from_value(answer["rollbacks"].clone()).map_err(unread)?;
            if files.is_empty() {
                return Ok("no rollback files: no write that this node held was lost\n".to_owned());
            }
            let mut rows = vec![row(&[&"file", &"term", &"first", &"last", &"commands", &"size"])];
            for file in files {
                let size = status::bytes(file.bytes);
                let RollbackReport { name, term, first, last, commands, .. } = file;
                rows.push(row(&[&name, &term, &first, &last, &commands, &size]));
            }
            Ok(aligned(&rows))
        }
        Some(Rollback::Show { name }) => {
            let answer = get(address, &format!("/rollbacks/{name}")).await?;
            let commands: Vec<LostReport> =
                serde_json::from_value(answer["commands"].clone()).map_err(unread)?;
            let mut rows = vec![row(&[&"position", &"command", &"receipt"])];
            for lost in commands {
                let position = format!("{}.{}.{}", lost.term, lost.index, lost.sub);
                let receipt = lost.receipt.unwrap_or_default();
                rows.push(row(&[&position, &lost.command, &receipt]));
            }
            Ok(aligned(&rows))
        }
        Some(Rollback::Replay { name, absent_keys }) => {
            let absent = if *absent_keys { "written" } else { "stay" };
            let body = json!({ "absent": absent });
            let done = post(address, &format!("/rollbacks/{name}"), &body).await?;
            Ok(format!(
                "{} written again; {} left, since what they change was changed or is absent; {} \
                 cannot be replayed\n",
                done["written"], done["changed"], done["never"]
            ))
        }
    }
}
