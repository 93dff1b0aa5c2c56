//! A backend that takes its time, so that order shows.
//!
//! Commands take their place when they are submitted and take effect later; a cut is taken later than
//! it is asked for. What relies on luck instead of order is wrong here nearly always.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use common::ids::{LogPos, NodeId};
use futures::future::{BoxFuture, FutureExt};
use leader::error::{ReadError, WriteError};
use leader::{ReadLevel, Role};
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
            matched: BTreeMap::new(),
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
                    let applied = local.submit(command).await;
                    waiting.fetch_sub(1, Ordering::Relaxed);
                    let _ = answer.send(applied);
                }
            }
        });
    }
}

impl Backend for Slow {
    fn submit(&self, command: Command) -> BoxFuture<'static, Answer> {
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

    fn view(&self, level: ReadLevel) -> BoxFuture<'_, Result<View, ReadError>> {
        self.views.fetch_add(1, Ordering::Relaxed);
        if let Some((_, error)) = self.failure.lock().expect("no panic").clone() {
            return futures::future::ready(Err(error)).boxed();
        }
        async move {
            tokio::time::sleep(self.delay * 2).await;
            self.local.view(level).await
        }
        .boxed()
    }

    fn standing(&self) -> Standing {
        self.standing.lock().expect("no panic").clone()
    }
}
