//! How fast requests are read, replies are written, and commands are applied, without a network.
//!
//! `cargo bench -p tercet --bench resp`

#![expect(missing_docs, reason = "criterion's macros make functions")]

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::FutureExt;
use leader::ReadLevel;
use server::backend::{Backend, Local};
use server::redis::{Answer, Command, Condition, Cut, Lifetime, Query, matches};
use server::resp::{Requests, Value, Version};

/// What is ready at once, as everything is without replication.
fn block_on<F: Future>(future: F) -> F::Output {
    future.now_or_never().expect("it is ready")
}

const LIMIT: usize = 32 << 20;

fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend(*word);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// Reads a stream in pieces as large as a connection's.
fn parse(stream: &[u8]) -> usize {
    let mut requests = Requests::new(LIMIT);
    let mut count = 0;
    for piece in stream.chunks(16 << 10) {
        requests.buffer().extend_from_slice(piece);
        while let Ok(Some(request)) = requests.take() {
            black_box(request);
            count += 1;
        }
    }
    count
}

fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("requests");
    let many = |words: &[&[u8]], count| encode(words).repeat(count);
    for (name, stream, count) in [
        ("get", many(&[b"GET", b"key:000000000042"], 1_000), 1_000),
        ("set_of_64_bytes", many(&[b"SET", b"key:000000000042", &[b'x'; 64]], 1_000), 1_000),
        ("set_of_1_mib", many(&[b"SET", b"key:000000000042", &vec![b'x'; 1 << 20]], 4), 4),
        ("mset_of_100", encode(&vec![b"1234567890".as_slice(); 201]), 1),
        ("inline", b"GET key:000000000042\r\n".repeat(1_000), 1_000),
    ] {
        assert_eq!(parse(&stream), count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |b| b.iter(|| parse(black_box(&stream))));
    }
    group.finish();
}

fn writing(c: &mut Criterion) {
    let mut group = c.benchmark_group("replies");
    let bulk = Value::bulk(vec![b'x'; 64]);
    for (name, value) in [
        ("ok", Value::OK),
        ("integer", Value::Integer(1_234_567)),
        ("bulk_of_64_bytes", bulk.clone()),
        ("array_of_100", Value::Array(vec![bulk; 100])),
    ] {
        let mut out = BytesMut::with_capacity(1 << 20);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                black_box(&value).write(Version::V2, &mut out);
            });
        });
    }
    group.finish();
}

fn machine(c: &mut Criterion) {
    let mut group = c.benchmark_group("machine");
    let local = Local::new();
    let mut number = 0_u64;
    let mut next = move || {
        number = (number + 1) % 100_000;
        format!("key:{number:012}").into()
    };
    let set = |key| Command::Set {
        key,
        value: vec![b'x'; 64].into(),
        condition: Condition::Always,
        lifetime: Lifetime::Clear,
        answer: Answer::Done,
    };
    for _ in 0..100_000 {
        block_on(local.submit(set(next()), None)).expect("a write");
    }
    group.bench_function("set", |b| b.iter(|| block_on(local.submit(set(next()), None))));
    group.bench_function("incr", |b| {
        b.iter(|| {
            block_on(local.submit(Command::Increment { key: "counter".into(), by: 1 }, None))
        });
    });
    group.bench_function("incrbyfloat", |b| {
        let command = || Command::IncrementFloat { key: "float".into(), by: "0.1".into() };
        b.iter(|| block_on(local.submit(command(), None)));
    });
    let view = block_on(local.view(ReadLevel::Strong, None)).expect("a view");
    group.bench_function("get", |b| {
        b.iter(|| {
            let cut = Cut::open(&view, view.clock, view.now).expect("a cut");
            cut.answer(&Query::Get { key: next() })
        });
    });
    group.bench_function("scan_of_10", |b| {
        let cut = Cut::open(&view, view.clock, view.now).expect("a cut");
        let mut cursor = 0;
        b.iter(|| {
            let found = cut.scan(cursor, 10).expect("a step");
            cursor = found.next;
            found.keys
        });
    });
    group.finish();
    c.bench_function("pattern", |b| {
        b.iter(|| matches(black_box(b"key:*[0-4]?2"), black_box(b"key:000000000042")));
    });
}

criterion_group!(benches, reading, writing, machine);
criterion_main!(benches);
