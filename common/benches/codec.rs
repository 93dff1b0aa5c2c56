//! Values into frames and back.
//!
//! `cargo bench -p tercet-common --bench codec`.
#![expect(missing_docs, reason = "the macro makes an undocumented function")]
#![allow(clippy::unwrap_used, reason = "a bench that fails should end")]

use std::hint::black_box;

use bytes::Bytes;
use common::codec::{self, Format};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};

const FORMAT: Format = Format { magic: *b"TBCH", version: 1 };

/// A batch of commands, as logs hold them.
#[derive(Debug, Deserialize, Serialize)]
enum Command {
    Put { client: u64, sequence: u64, key: Bytes, value: Bytes },
    Delete { client: u64, sequence: u64, key: Bytes },
}

fn commands(count: usize, value: usize) -> Vec<Command> {
    let key = |n: usize| Bytes::from(format!("user:{n:08}"));
    (0..count)
        .map(|n| {
            let (client, sequence) = (1 << 40, n as u64);
            if n % 8 == 7 {
                Command::Delete { client, sequence, key: key(n) }
            } else {
                let value = Bytes::from(vec![b'v'; value]);
                Command::Put { client, sequence, key: key(n), value }
            }
        })
        .collect()
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for (count, value) in [(1, 16), (1, 4_096), (64, 100), (1_024, 100)] {
        let commands = commands(count, value);
        let bytes = codec::encode(FORMAT, &commands);
        let what = format!("{count} commands of {value} B");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("encode", &what), |b| {
            b.iter(|| codec::encode(FORMAT, black_box(&commands)));
        });
        group.bench_function(BenchmarkId::new("decode", &what), |b| {
            b.iter(|| codec::decode::<Vec<Command>>(FORMAT, black_box(&bytes), 1 << 20).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
