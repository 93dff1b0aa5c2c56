//! A backend that takes its time, so that order shows.
//!
//! Commands take their place when they are submitted and take effect later; a cut is taken later than
//! it is asked for. What relies on luck instead of order is wrong here nearly always.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use common::consistency::{Consistency, TradeOff, Visible};
use common::ids::{ClusterId, LogPos, NodeId};
use common::receipt::{Fate, Receipt};
use common::seal::ClusterSecret;
use common::token::LogToken;
use futures::future::{BoxFuture, FutureExt};
use leader::error::{ReadError, ResolveError, WriteError};
use leader::quota::{Quota, Usage};
use leader::{ReadLevel, ReplicationMode, Role};
use server::backend::{Applied, Backend, Local, Standing, View};
use server::redis::Command;
use tokio::sync::{mpsc, oneshot};

type Answer = Result<Applied, WriteError>;
type Submitted = (Command, oneshot::Sender<Answer>);

pub(crate) struct Slow {
    local: Arc<Local>,
    queue: mpsc::UnboundedSender<Submitted>,
    incoming: std::sync::Mutex<Option<mpsc::UnboundedReceiver<Submitted>>>,
    delay: Duration,
    /// Cuts that were taken, and the most commands that waited at a time.
    pub(crate) views: AtomicU64,
    pub(crate) waiting: Arc<AtomicUsize>,
    pub(crate) most_waiting: AtomicUsize,
    /// What the node says of itself.
    pub(crate) standing: std::sync::Mutex<Standing>,
    /// What writes and reads fail with, if they do.
    pub(crate) failure: std::sync::Mutex<Option<(WriteError, ReadError)>>,
}

impl Slow {
    pub(crate) fn new(delay: Duration) -> Arc<Self> {
        let (queue, incoming) = mpsc::unbounded_channel();
        let standing = Standing {
            role: Role::Leader,
            leader: Some(NodeId(1)),
            term: 3,
            applied: Some(LogPos { term: 3, index: 40 }),
            voters: vec![NodeId(1), NodeId(2), NodeId(3)],
            hidden: std::collections::BTreeSet::new(),
            matched: BTreeMap::new(),
            usage: Usage::default(),
            quota: Quota::default(),
        };
        Arc::new(Self {
            local: Arc::new(Local::new()),
            queue,
            incoming: std::sync::Mutex::new(Some(incoming)),
            delay,
            views: AtomicU64::new(0),
            waiting: Arc::default(),
            most_waiting: AtomicUsize::new(0),
            standing: std::sync::Mutex::new(standing),
            failure: std::sync::Mutex::new(None),
        })
    }

    /// Begins to apply, on the runtime of whoever calls first.
    fn ensure_applying(&self) {
        let Some(mut incoming) = self.incoming.lock().expect("no panic").take() else { return };
        let (local, delay) = (Arc::clone(&self.local), self.delay);
        let waiting = Arc::clone(&self.waiting);
        tokio::spawn(async move {
            while let Some((command, answer)) = incoming.recv().await {
                // A round of replication takes all that is there.
                tokio::time::sleep(delay).await;
                let mut batch = vec![(command, answer)];
                while let Ok(more) = incoming.try_recv() {
                    batch.push(more);
                }
                for (command, answer) in batch {
                    let applied = local.submit(command, None).await;
                    waiting.fetch_sub(1, Ordering::Relaxed);
                    let _ = answer.send(applied);
                }
            }
        });
    }
}

impl Backend for Slow {
    fn submit(&self, command: Command, _: Option<ReplicationMode>) -> BoxFuture<'static, Answer> {
        if let Some((error, _)) = self.failure.lock().expect("no panic").clone() {
            return futures::future::ready(Err(error)).boxed();
        }
        self.ensure_applying();
        let (answer, answered) = oneshot::channel();
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_waiting.fetch_max(waiting, Ordering::Relaxed);
        self.queue.send((command, answer)).expect("the applying task lives");
        async move { answered.await.expect("an answer") }.boxed()
    }

    fn resolve<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<Fate, ResolveError>> {
        self.local.resolve(receipt)
    }

    fn write_mode(&self) -> ReplicationMode {
        self.local.write_mode()
    }

    fn explain(&self, mode: &ReplicationMode, level: Consistency) -> Result<TradeOff, String> {
        match mode {
            ReplicationMode::SemiSync { followers: 3.. } => Err("there are 2 voters".to_owned()),
            _ => self.local.explain(mode, level).or_else(|_| Ok(table(mode, level))),
        }
    }

    fn seal(&self) -> Option<(ClusterId, ClusterSecret)> {
        self.local.seal()
    }

    fn token(&self) -> Option<LogToken> {
        self.local.token()
    }

    fn view(
        &self,
        level: ReadLevel,
        token: Option<LogToken>,
    ) -> BoxFuture<'_, Result<View, ReadError>> {
        self.views.fetch_add(1, Ordering::Relaxed);
        if let Some((_, error)) = self.failure.lock().expect("no panic").clone() {
            return futures::future::ready(Err(error)).boxed();
        }
        async move {
            tokio::time::sleep(self.delay * 2).await;
            self.local.view(level, token).await
        }
        .boxed()
    }

    fn standing(&self) -> Standing {
        self.standing.lock().expect("no panic").clone()
    }
}

/// A table that says nothing but what was asked.
fn table(mode: &ReplicationMode, read: Consistency) -> TradeOff {
    TradeOff {
        write: mode.clone(),
        read,
        loss: Vec::new(),
        availability: Vec::new(),
        write_round_trips: 1,
        write_syncs: 1,
        read_round_trips: 1,
        write_time: None,
        read_time: None,
        visible: Visible::Immediately,
        proven_age: None,
        replies_that_wait: String::new(),
        warnings: Vec::new(),
    }
}
