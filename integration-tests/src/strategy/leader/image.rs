//! Reading a copy of a node's disk as the node itself would, beside the run.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use common::env::{Clock, Env, Mono, Parts, Spawn, SplitMix64};
use common::ids::{Incarnation, NodeId};
use common::storage::disk::simulated::SimDisk;
use common::storage::engine::MemoryEngines;
use common::transport::{CallError, Class, Handler, Transport};
use futures::FutureExt;
use futures::future::BoxFuture;
use leader::{Config, KeyValue};

use crate::ledger::Found;

/// What the product's own recovery finds on a disk, or why it refuses it.
pub(super) async fn read(disk: &SimDisk, config: Config, engine: &str) -> Result<Found, String> {
    let disk = disk.mount(Incarnation(1));
    let engines = Arc::new(MemoryEngines::on_disk(disk.clone(), engine));
    let env = Env::new(Parts {
        node: config.node,
        incarnation: Incarnation(1),
        clock: Arc::new(Standing),
        rng: Arc::new(SplitMix64::new(0)),
        spawn: Arc::new(Beside),
        transport: Arc::new(Nowhere),
        disk,
    });
    let inspected = leader::inspect::inspect(&env, engines, KeyValue, &config).await;
    let found = inspected.map_err(|error| error.to_string())?;
    Ok(Found { vote: found.vote, applied: found.applied, entries: found.entries })
}

/// A clock that stands still: recovery waits for nothing.
#[derive(Debug)]
struct Standing;

impl Clock for Standing {
    fn now(&self) -> Mono {
        Mono(Duration::from_secs(3600))
    }

    fn wall_millis(&self) -> u64 {
        0
    }

    fn sleep_until(&self, _: Mono) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

/// Tasks of the world itself, that fire no marks.
#[derive(Debug)]
struct Beside;

impl Spawn for Beside {
    fn spawn(
        &self,
        _: &'static str,
        future: BoxFuture<'static, ()>,
    ) -> tokio::task::JoinHandle<()> {
        tokio::spawn(Unmarked::new(future))
    }
}

/// A network without anybody.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Transport for Nowhere {
    fn call(
        &self,
        _: NodeId,
        _: Class,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        std::future::ready(Err(CallError::Closed)).boxed()
    }

    fn cast(&self, _: NodeId, _: Class, _: Bytes) -> Result<(), CallError> {
        Err(CallError::Closed)
    }

    fn serve(&self, _: Arc<dyn Handler>) {}

    fn learn(&self, _: NodeId, _: &str) {}

    fn forget(&self, _: NodeId) {}

    async fn close(&self) {}
}

/// A future whose marks do not count: reading a copy takes paths that the run itself did not.
pub(super) struct Unmarked<F>(Pin<Box<F>>);

impl<F> Unmarked<F> {
    pub(super) fn new(future: F) -> Self {
        Self(Box::pin(future))
    }
}

impl<F: Future> Future for Unmarked<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let before: BTreeSet<&'static str> = common::mark::take();
        let polled = self.0.as_mut().poll(cx);
        drop(common::mark::take());
        before.into_iter().for_each(common::mark::note);
        polled
    }
}
