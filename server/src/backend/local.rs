//! The machine without replication: in this process, in memory, for tests and benches.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use common::clock::{Hlc, HybridClock};
use common::consistency::{Consistency, TradeOff};
use common::ids::{ClusterId, Epoch, GroupId, LogPos, NodeId};
use common::receipt::{Fate, LogReceipt, Receipt};
use common::seal::ClusterSecret;
use common::storage::engine::{Engine, EngineError, MemoryEngine};
use common::token::LogToken;
use futures::future::{BoxFuture, FutureExt, ready};
use leader::error::{ReadError, ResolveError, WriteError};
use leader::quota::{Quota, Usage};
use leader::state_machine::{Draft, Stamp, StateMachine};
use leader::{AckReport, ReadLevel, ReplicationMode, Role};

use super::{Applied, Backend, Standing, View};
use crate::redis::{Command, Redis, Reply};
use crate::service::wall_clock;

/// The name of what is no cluster.
const CLUSTER: ClusterId = ClusterId(1);

/// How often what is due is looked for, in milliseconds.
const SWEEP_EVERY: u64 = 10;

/// A machine over an engine in memory. Its one member is its leader; it forgets all when it ends.
#[derive(Debug, Default)]
pub struct Local {
    engine: MemoryEngine,
    order: Mutex<Order>,
}

#[derive(Debug, Default)]
struct Order {
    clock: HybridClock,
    index: u64,
    swept: u64,
}

impl Local {
    /// An empty state.
    pub fn new() -> Self {
        Self::default()
    }

    fn apply(&self, command: &Command) -> Result<Applied, EngineError> {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.sweep(&mut order)?;
        let (reply, index) = self.step(&mut order, command)?;
        let receipt = LogReceipt {
            cluster: CLUSTER,
            epoch: Epoch(0),
            group: GroupId(0),
            at: LogPos { term: 1, index },
            sub: 0,
            stamp: Hlc::ZERO,
            client: None,
        };
        let report = AckReport { committed: true, ..AckReport::default() };
        Ok(Applied { reply, receipt, report })
    }

    fn step(&self, order: &mut Order, command: &Command) -> Result<(Reply, u64), EngineError> {
        order.index += 1;
        let clock = order.clock.tick(wall_clock().as_millis() as u64);
        let mut draft = Draft::new(&self.engine);
        let stamp = Stamp { clock, index: order.index, sub: 0 };
        let reply = Redis.apply(&mut draft, command, stamp)?;
        self.engine.write(draft.into_batch())?;
        Ok((reply, order.index))
    }

    /// Does what a leader does by itself.
    fn sweep(&self, order: &mut Order) -> Result<(), EngineError> {
        let now = wall_clock().as_millis() as u64;
        if now < order.swept + SWEEP_EVERY {
            return Ok(());
        }
        order.swept = now;
        let upto = order.clock.tick(now);
        for command in Redis.due(&self.engine, upto, 1)? {
            self.step(order, &command)?;
        }
        Ok(())
    }

    fn cut(&self) -> Result<View, EngineError> {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.sweep(&mut order)?;
        let clock = order.clock.tick(wall_clock().as_millis() as u64);
        let at = LogPos { term: 1, index: order.index };
        Ok(View { state: self.engine.snapshot()?, clock, now: clock, at, age: None })
    }
}

impl Backend for Local {
    fn submit(
        &self,
        command: Command,
        _: Option<ReplicationMode>,
    ) -> BoxFuture<'static, Result<Applied, WriteError>> {
        let answer = match Redis.admit(&command) {
            Ok(()) => self.apply(&command).map_err(|error| WriteError::Refused(error.to_string())),
            Err(refused) => Err(WriteError::Refused(refused.reason)),
        };
        ready(answer).boxed()
    }

    fn view(&self, _: ReadLevel, _: Option<LogToken>) -> BoxFuture<'_, Result<View, ReadError>> {
        ready(self.cut().map_err(ReadError::Engine)).boxed()
    }

    /// Whatever it has acknowledged is there.
    fn resolve<'a>(&'a self, _: &'a Receipt) -> BoxFuture<'a, Result<Fate, ResolveError>> {
        ready(Ok(Fate::Committed)).boxed()
    }

    fn write_mode(&self) -> ReplicationMode {
        ReplicationMode::Quorum
    }

    fn explain(&self, _: &ReplicationMode, _: Consistency) -> Result<TradeOff, String> {
        Err("this server replicates nothing".to_owned())
    }

    fn seal(&self) -> Option<(ClusterId, ClusterSecret)> {
        Some((CLUSTER, ClusterSecret::new([0; 16])))
    }

    fn token(&self) -> Option<LogToken> {
        Some(LogToken::new(CLUSTER, Epoch(0)))
    }

    fn standing(&self) -> Standing {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        Standing {
            role: Role::Leader,
            leader: Some(NodeId(1)),
            term: 1,
            applied: Some(LogPos { term: 1, index: order.index }),
            voters: vec![NodeId(1)],
            hidden: std::collections::BTreeSet::new(),
            matched: BTreeMap::new(),
            usage: Usage::default(),
            quota: Quota::default(),
        }
    }
}
