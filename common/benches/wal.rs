//! The log against the disk under it: records per second with different sizes and numbers of
//! records in flight, and the same groups written and synced by hand in the same run.
//!
//! `cargo bench -p tercet-common --bench wal`. The lines that begin with `ratio` are the result: the
//! log's throughput, divided by that of plain writes with one sync each of equally many bytes.
//! Set `TERCET_BENCH_DIR` to a folder on the disk to measure; the default is the folder for
//! temporary files.
#![expect(missing_docs, reason = "the macro makes an undocumented function")]
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::unwrap_used, reason = "a bench that fails should end")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use common::env::{Env, Parts, SplitMix64, SystemClock, TokioSpawn};
use common::ids::{Incarnation, NodeId};
use common::storage::disk::{Disk, Open, OsDisk};
use common::storage::wal::{Lsn, Replay, Wal, WalConfig};
use common::transport::{CallError, Class, Handler, Transport};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::future::{BoxFuture, ready};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

struct Nothing;

impl Replay for Nothing {
    fn record(&mut self, _: Lsn, _: Bytes) -> Result<(), String> {
        Ok(())
    }
}

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
        Box::pin(ready(Err(CallError::TimedOut(to))))
    }
    fn cast(&self, _: NodeId, _: Class, _: Bytes) -> Result<(), CallError> {
        Ok(())
    }
    fn serve(&self, _: Arc<dyn Handler>) {}
    fn learn(&self, _: NodeId, _: &str) {}
    fn forget(&self, _: NodeId) {}
    async fn close(&self) {}
}

struct Bench {
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let place =
            std::env::var_os("TERCET_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
        let folder = tempfile::tempdir_in(place).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self { runtime, folder }
    }

    async fn disk(&self, name: &str) -> Arc<dyn Disk> {
        Arc::new(OsDisk::open(self.folder.path().join(name)).await.unwrap())
    }

    async fn wal(&self, name: &str) -> Wal {
        let env = Env::new(Parts {
            node: NodeId(1),
            incarnation: Incarnation(1),
            clock: Arc::new(SystemClock::default()),
            rng: Arc::new(SplitMix64::new(1)),
            spawn: Arc::new(TokioSpawn),
            transport: Arc::new(Nobody),
            disk: self.disk(name).await,
        });
        Wal::open(&env, "wal", WalConfig::default(), &mut Nothing).await.unwrap()
    }

    /// Appends records, `in_flight` of them waiting at any time. Returns the time and the syncs.
    fn append(&self, wal: &Wal, size: usize, in_flight: usize, records: u64) -> (Duration, u64) {
        self.runtime.block_on(async {
            let record = Bytes::from(vec![7; size]);
            let permits = Arc::new(Semaphore::new(in_flight));
            let syncs = wal.health().syncs;
            let begun = Instant::now();
            for _ in 0..records {
                let permit = permits.clone().acquire_owned().await.unwrap();
                wal.append(vec![record.clone()], move |done| {
                    done.unwrap();
                    drop(permit);
                });
            }
            let last = wal.sync().await.unwrap();
            let took = begun.elapsed();
            wal.release(last);
            (took, wal.health().syncs - syncs)
        })
    }

    /// Writes and syncs so many groups of so many bytes into space that was reserved.
    fn raw(&self, group: usize, groups: u64) -> Duration {
        self.runtime.block_on(async {
            static NUMBER: AtomicU64 = AtomicU64::new(0);
            let name = format!("raw-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
            let disk = self.disk(&name).await;
            let file = disk.open("raw", Open::New).await.unwrap();
            file.allocate(group as u64 * groups).await.unwrap();
            file.sync().await.unwrap();
            let path = self.folder.path().join(&name).join("raw");
            let bytes = vec![7; group];
            // In one thread and without any of our code: what the machine can do.
            let raw = move || {
                use std::os::unix::fs::FileExt as _;
                #[expect(clippy::disallowed_types, reason = "what is below the seam")]
                let file = std::fs::File::options().write(true).open(path).unwrap();
                let begun = Instant::now();
                for n in 0..groups {
                    file.write_all_at(&bytes, n * group as u64).unwrap();
                    file.sync_data().unwrap();
                }
                begun.elapsed()
            };
            tokio::task::spawn_blocking(raw).await.unwrap()
        })
    }
}

/// Sizes of records, and how many wait at any time.
const CASES: [(usize, usize); 7] =
    [(100, 1), (100, 16), (100, 256), (1_000, 64), (1_000, 1_024), (16_384, 64), (262_144, 8)];

fn records_per_second(criterion: &mut Criterion) {
    let bench = Bench::new();
    let wal = bench.runtime.block_on(bench.wal("bench"));
    let mut group = criterion.benchmark_group("wal/append");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for (size, in_flight) in CASES {
        group.throughput(Throughput::Elements(1));
        let id = BenchmarkId::new(format!("{size} B"), format!("{in_flight} in flight"));
        group.bench_function(id, |b| {
            b.iter_custom(|records| bench.append(&wal, size, in_flight, records.max(64)).0);
        });
    }
    group.finish();
    bench.runtime.block_on(wal.close()).unwrap();
}

/// The log and plain writes take turns, so that both meet the same disk.
fn ratio_to_plain_writes(_: &mut Criterion) {
    let bench = Bench::new();
    let wal = bench.runtime.block_on(bench.wal("ratio"));
    for (size, in_flight) in CASES {
        let records = (in_flight as u64 * 60).clamp(200, (256 << 20) / size as u64);
        let (mut ours, mut plain) = (Duration::ZERO, Duration::ZERO);
        let (mut syncs, mut bytes) = (0, 0);
        for _ in 0..5 {
            let (took, groups) = bench.append(&wal, size, in_flight, records);
            let group = (records as usize * size).div_ceil(groups as usize);
            ours += took;
            syncs += groups;
            bytes += records as usize * size;
            plain += bench.raw(group, groups);
        }
        let rate = |time: Duration| 5.0 * records as f64 / time.as_secs_f64();
        println!(
            "ratio {size:>7} B x {in_flight:>5} in flight: {:.2} ({:.0} records/s against {:.0}, {} \
             records and {} KiB per sync)",
            plain.as_secs_f64() / ours.as_secs_f64(),
            rate(ours),
            rate(plain),
            5 * records / syncs,
            bytes as u64 / syncs / 1024,
        );
    }
    bench.runtime.block_on(wal.close()).unwrap();
}

criterion_group!(benches, records_per_second, ratio_to_plain_writes);
criterion_main!(benches);
