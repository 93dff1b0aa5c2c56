//! A state machine of your own: accounts, and transfers that never overdraw.
//!
//! ```text
//! cargo run -p tercet-leader --example own_state_machine
//! ```
//!
//! What is replicated is the command, so `apply` must come to the same result on every member: no
//! clocks, no randomness. A command that cannot be done is a *reply*; an error is a failure of the
//! storage and stops the node.

use std::sync::Arc;
use std::time::Duration;

use common::env::{Env, Parts, SplitMix64, SystemClock, TokioSpawn};
use common::ids::{Incarnation, NodeId};
use common::storage::disk::OsDisk;
use common::storage::engine::{EngineError, Keyspace, MemoryEngines, Read};
use common::transport::tcp::{TcpConfig, TcpParts, TcpTransport};
use leader::state_machine::{Draft, Refused, Stamp, StateMachine};
use leader::{Config, Member, Node, ReadOptions, WriteOptions};
use serde::{Deserialize, Serialize};

const ACCOUNTS: Keyspace = Keyspace("accounts");

/// What clients ask for.
#[derive(Debug, Serialize, Deserialize)]
enum Command {
    Deposit { to: String, amount: u64 },
    Transfer { from: String, to: String, amount: u64 },
}

/// What they are answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Reply {
    Done,
    Overdrawn { balance: u64 },
}

#[derive(Debug)]
struct Bank;

fn balance(state: &dyn Read, account: &str) -> Result<u64, EngineError> {
    let bytes = state.get(ACCOUNTS, account.as_bytes())?;
    Ok(bytes.and_then(|b| b[..].try_into().ok()).map_or(0, u64::from_le_bytes))
}

impl StateMachine for Bank {
    type Command = Command;
    type Reply = Reply;

    fn admit(&self, command: &Command) -> Result<(), Refused> {
        let (Command::Deposit { amount, .. } | Command::Transfer { amount, .. }) = command;
        match amount {
            0 => Err(Refused { reason: "an amount must be at least 1".into() }),
            _ => Ok(()),
        }
    }

    fn apply(
        &self,
        state: &mut Draft<'_>,
        command: &Command,
        _: Stamp,
    ) -> Result<Reply, EngineError> {
        let set = |state: &mut Draft<'_>, account: &str, value: u64| {
            state.put(ACCOUNTS, account.to_owned(), value.to_le_bytes().to_vec());
        };
        match command {
            Command::Deposit { to, amount } => {
                let sum = balance(state, to)?.saturating_add(*amount);
                set(state, to, sum);
            }
            Command::Transfer { from, to, amount } => {
                let has = balance(state, from)?;
                let Some(rest) = has.checked_sub(*amount) else {
                    return Ok(Reply::Overdrawn { balance: has });
                };
                set(state, from, rest);
                let sum = balance(state, to)?.saturating_add(*amount);
                set(state, to, sum);
            }
        }
        Ok(Reply::Done)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let id = NodeId(1);
    let listen = TcpConfig::new("127.0.0.1:0", id, "bank");
    let transport = TcpTransport::bind(TcpParts::system(), listen).await?;
    let address = transport.address().to_owned();
    let env = Env::new(Parts {
        node: id,
        incarnation: Incarnation(1),
        clock: Arc::new(SystemClock::default()),
        rng: Arc::new(SplitMix64::from_system()),
        spawn: Arc::new(TokioSpawn),
        transport,
        disk: Arc::new(OsDisk::open(folder.path()).await?),
    });
    // One voter is a cluster, too: durable, and ready to grow.
    let engines = Arc::new(MemoryEngines::on_disk(env.disk.clone(), "engine"));
    let bank = Node::open(env, engines, Bank, Config::new(id, "bank")).await?;
    bank.bootstrap(vec![Member { id, address }]).await?;
    let led = bank.wait_until(Duration::from_secs(10), |s| s.leader.is_some()).await;
    led.map_err(|_| "no leader")?;

    let ask = |command| bank.write(command, WriteOptions::default());
    ask(Command::Deposit { to: "ada".into(), amount: 100 }).await?;
    let transfer = |amount| Command::Transfer { from: "ada".into(), to: "bob".into(), amount };
    println!("transfer of 70: {:?}", ask(transfer(70)).await?.reply);
    println!("transfer of 70: {:?}", ask(transfer(70)).await?.reply);
    println!("transfer of 0: {}", ask(transfer(0)).await.expect_err("refused"));

    let view = bank.view(ReadOptions::default()).await?;
    println!("ada has {}, bob has {}", balance(&view, "ada")?, balance(&view, "bob")?);
    bank.shutdown().await;
    Ok(())
}
