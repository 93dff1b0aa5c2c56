//! Both engines: batches written, keys read, pages scanned.
//!
//! `cargo bench -p tercet-common --bench engines`.
#![expect(missing_docs, reason = "the macro makes an undocumented function")]
#![allow(clippy::unwrap_used, reason = "a bench that fails should end")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use common::env::{Rng, SplitMix64};
use common::storage::engine::{
    Batch, Engine, Engines, FjallConfig, FjallEngines, Generation, KeyRange, Keyspace,
    MemoryEngines, PageLimit,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const DATA: Keyspace = Keyspace("data");
/// Keys that are there before anything is measured.
const KEYS: u64 = 100_000;
const VALUE: usize = 256;

fn key(n: u64) -> Bytes {
    // Spread, as hashed keys are.
    Bytes::copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
}

fn batch(keys: impl Iterator<Item = u64>) -> Batch {
    let value = Bytes::from(vec![7; VALUE]);
    let mut batch = Batch::new();
    for n in keys {
        batch.put(DATA, key(n), value.clone());
    }
    batch
}

fn filled(runtime: &tokio::runtime::Runtime, engines: &dyn Engines) -> Arc<dyn Engine> {
    let engine = runtime.block_on(async {
        let engine = engines.create(Generation(1)).await.unwrap();
        engines.switch(Generation(1)).await.unwrap();
        engine
    });
    for start in (0..KEYS).step_by(1_000) {
        engine.write(batch(start..start + 1_000)).unwrap();
    }
    engine
}

fn engines(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let memory = MemoryEngines::volatile();
    let fjall = FjallEngines::new(folder.path().join("engine"), FjallConfig::default());
    let both: [(&str, &dyn Engines); 2] = [("memory", &memory), ("fjall", &fjall)];
    for (name, engines) in both {
        let engine = filled(&runtime, engines);
        let rng = SplitMix64::new(1);
        let mut group = criterion.benchmark_group(format!("engine/{name}"));
        group.sample_size(20);
        for size in [1, 64, 1_024] {
            group.throughput(Throughput::Elements(size));
            group.bench_function(BenchmarkId::new("write, keys per batch", size), |b| {
                b.iter_batched(
                    || batch((0..size).map(|_| rng.below(KEYS))),
                    |batch| engine.write(batch).unwrap(),
                    criterion::BatchSize::LargeInput,
                );
            });
        }
        group.throughput(Throughput::Elements(1));
        group.bench_function("get", |b| {
            b.iter(|| black_box(engine.get(DATA, &key(rng.below(KEYS))).unwrap()).unwrap());
        });
        let limit = PageLimit { items: 1_000, bytes: usize::MAX };
        group.throughput(Throughput::Elements(1_000));
        group.bench_function("scan, pages of 1000 keys", |b| {
            b.iter(|| {
                // Never among the last keys, where a page is not full.
                let from = Bytes::copy_from_slice(&(rng.next_u64() / 2).to_be_bytes());
                let page = engine.scan(DATA, &KeyRange::from(from), limit).unwrap();
                assert_eq!(page.items.len(), 1_000);
                page
            });
        });
        group.finish();
    }
}

criterion_group!(benches, engines);
criterion_main!(benches);
