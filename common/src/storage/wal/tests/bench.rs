//! What the tests of this folder share: an environment over any disk, and what became of appends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use super::super::{Lsn, Replay, Wal, WalConfig, WalError};
use crate::env::simulated::{SimWorldClock, Trace};
use crate::env::{Env, Parts, SplitMix64, SystemClock, TokioSpawn};
use crate::ids::{Incarnation, NodeId};
use crate::storage::disk::Disk;
use crate::storage::disk::simulated::{SimDisk, SimDiskConfig};
use crate::transport::{CallError, Class, Handler, Transport};

/// A log talks to nobody.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Transport for Nobody {
    fn call(
        &self,
        to: NodeId,
        _: Class,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        Box::pin(async move { Err(CallError::TimedOut(to)) })
    }
    fn cast(&self, _: NodeId, _: Class, _: Bytes) -> Result<(), CallError> {
        Ok(())
    }
    fn serve(&self, _: Arc<dyn Handler>) {}
    fn learn(&self, _: NodeId, _: &str) {}
    fn forget(&self, _: NodeId) {}
    async fn close(&self) {}
}

pub(super) fn env(disk: Arc<dyn Disk>) -> Env {
    env_with_rng(disk, 4711)
}

fn env_with_rng(disk: Arc<dyn Disk>, seed: u64) -> Env {
    Env::new(Parts {
        node: NodeId(1),
        incarnation: Incarnation(1),
        clock: Arc::new(SystemClock::default()),
        rng: Arc::new(SplitMix64::new(seed)),
        spawn: Arc::new(TokioSpawn),
        transport: Arc::new(Nobody),
        disk,
    })
}

/// A simulated disk whose syncs take no time.
pub(super) fn sim_disk(seed: u64) -> SimDisk {
    let (world, rng) = (SimWorldClock::new(), SplitMix64::new(seed));
    SimDisk::new(NodeId(1), &world, &rng, Trace::default(), SimDiskConfig::instant())
}

/// A simulated disk whose syncs take a while.
pub(super) fn slow_disk(seed: u64) -> SimDisk {
    let (world, rng) = (SimWorldClock::new(), SplitMix64::new(seed));
    SimDisk::new(NodeId(1), &world, &rng, Trace::default(), SimDiskConfig::default())
}

/// The environment of a new incarnation over a simulated disk.
pub(super) fn mount(disk: &SimDisk) -> Env {
    env(disk.mount(Incarnation(1)))
}

/// The same with other randomness.
pub(super) fn mount_with_rng(disk: &SimDisk, seed: u64) -> Env {
    env_with_rng(disk.mount(Incarnation(1)), seed)
}

/// All that a log replayed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Replayed(pub(super) Vec<(Lsn, Bytes)>);

impl Replay for Replayed {
    fn record(&mut self, lsn: Lsn, record: Bytes) -> Result<(), String> {
        self.0.push((lsn, record));
        Ok(())
    }
}

pub(super) fn small() -> WalConfig {
    WalConfig { segment_bytes: 4096, recent_bytes: 512, ..WalConfig::default() }
}

pub(super) async fn open(env: &Env, config: WalConfig) -> Result<(Wal, Replayed), WalError> {
    let mut replayed = Replayed::default();
    let wal = Wal::open(env, "wal", config, &mut replayed).await?;
    Ok((wal, replayed))
}

/// What callbacks said, in the order in which they said it.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(Arc<Mutex<Vec<Result<Lsn, WalError>>>>);

impl Told {
    pub(super) fn note(&self) -> impl FnOnce(Result<Lsn, WalError>) + Send + 'static {
        let told = self.clone();
        move |done| told.0.lock().unwrap().push(done)
    }

    pub(super) fn all(&self) -> Vec<Result<Lsn, WalError>> {
        self.0.lock().unwrap().clone()
    }
}

/// A record that says which one it is, and is `length` bytes long or a little longer.
pub(super) fn record(n: u64, length: usize) -> Bytes {
    let mut bytes = n.to_string().into_bytes();
    bytes.push(b' ');
    while bytes.len() < length {
        bytes.push(b'a' + (bytes.len() as u64 * (n + 7) % 26) as u8);
    }
    bytes.into()
}

/// Lets the keeper of the log do what it has to do. Tasks on paused time only.
#[expect(clippy::disallowed_methods, reason = "the test's own time")]
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}
