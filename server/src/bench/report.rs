//! The figures, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::load::{Load, Outcome};

/// The figures of one run. Keys are added, never renamed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the program.
    pub version: String,
    /// Where the load went.
    pub addresses: Vec<String>,
    /// Clients at the same time.
    pub clients: usize,
    /// Commands per batch.
    pub pipeline: u64,
    /// Bytes per value.
    pub value_size: usize,
    /// The share of reads.
    pub read_share: f64,
    /// When writes are acknowledged, if the load asked for a mode.
    pub ack: Option<String>,
    /// How fresh reads are, if the load asked for a level.
    pub read: Option<String>,
    /// How many replicas each write waited for by `WAIT`, if it did.
    #[serde(default)]
    pub wait: Option<u32>,
    /// Different keys.
    pub keys: u64,
    /// How long it ran.
    pub seconds: f64,
    /// Answered requests per second, reads and writes together.
    pub per_second: f64,
    /// Reads.
    pub reads: Figures,
    /// Writes.
    pub writes: Figures,
    /// Requests without an answer or with an error, by kind.
    pub errors: BTreeMap<String, u64>,
}

/// The figures of reads, or of writes. Latencies are in microseconds, from sending a batch to the
/// reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// How many were answered.
    pub count: u64,
    /// Per second.
    pub per_second: f64,
    /// The mean.
    pub mean_us: f64,
    /// Half of all took at most so long.
    pub p50_us: f64,
    /// 99 of 100 took at most so long.
    pub p99_us: f64,
    /// 999 of 1000 took at most so long.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Figures {
    fn of(latencies: &Histogram, seconds: f64) -> Self {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        Self {
            count: latencies.count(),
            per_second: tenths(latencies.count() as f64 / seconds),
            mean_us: micros(latencies.mean()),
            p50_us: micros(latencies.quantile(0.5)),
            p99_us: micros(latencies.quantile(0.99)),
            p999_us: micros(latencies.quantile(0.999)),
            max_us: micros(latencies.max()),
        }
    }
}

/// Rounded for people, who read no more of it.
fn tenths(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

impl Report {
    /// The figures of a run.
    pub fn of(load: &Load, outcome: &Outcome, elapsed: Duration) -> Self {
        let seconds = elapsed.max(Duration::from_micros(1)).as_micros() as f64 / 1e6;
        let (reads, writes) =
            (Figures::of(&outcome.reads, seconds), Figures::of(&outcome.writes, seconds));
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: load.addresses.clone(),
            clients: load.clients,
            pipeline: load.pipeline,
            value_size: load.value_size,
            read_share: load.read_share,
            ack: load.ack.clone(),
            read: load.read.clone(),
            wait: load.wait,
            keys: load.keys,
            seconds,
            per_second: tenths(reads.per_second + writes.per_second),
            reads,
            writes,
            errors: outcome.errors.clone(),
        }
    }

    /// How many requests had no answer or an error.
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The report as people read it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{} clients, pipeline {}, values of {} bytes, {:.0} % reads, {} keys, {:.1} s",
            self.clients,
            self.pipeline,
            self.value_size,
            self.read_share * 100.0,
            self.keys,
            self.seconds
        );
        for (what, setting) in [("writes acknowledged", &self.ack), ("reads", &self.read)] {
            if let Some(setting) = setting {
                let _ = writeln!(text, "{what}: {setting}");
            }
        }
        if let Some(replicas) = self.wait {
            let _ = writeln!(text, "writes count when WAIT has reached {replicas} replicas");
        }
        let _ = writeln!(
            text,
            "{:<8}{:>10}{:>12}{:>11}{:>11}{:>11}{:>11}",
            "", "count", "per second", "p50 ms", "p99 ms", "p99.9 ms", "max ms"
        );
        for (name, figures) in [("reads", &self.reads), ("writes", &self.writes)] {
            if figures.count == 0 {
                continue;
            }
            let _ = writeln!(
                text,
                "{name:<8}{:>10}{:>12.0}{:>11.2}{:>11.2}{:>11.2}{:>11.2}",
                figures.count,
                figures.per_second,
                figures.p50_us / 1000.0,
                figures.p99_us / 1000.0,
                figures.p999_us / 1000.0,
                figures.max_us / 1000.0
            );
        }
        let _ = writeln!(text, "together {:.0} requests per second", self.per_second);
        if self.errors.is_empty() {
            let _ = writeln!(text, "no errors");
        }
        for (kind, count) in &self.errors {
            let _ = writeln!(text, "errors: {count} x {kind}");
        }
        text
    }
}
