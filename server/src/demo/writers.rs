//! Clients that go on writing while the cluster changes under them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::ledger::Pairs;
use crate::client::Client;

/// How long one attempt may take before the next node is tried.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long a write may take over all attempts.
const LONGEST: Duration = Duration::from_secs(30);
/// Between two writes of one client, so that the tour shows a steady trickle, not a benchmark.
const PAUSE: Duration = Duration::from_millis(2);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(10);

/// Writers in the background.
#[derive(Debug)]
pub(super) struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<Written, String>>>,
}

/// What they wrote.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Everything that was acknowledged.
    pub(super) acknowledged: Pairs,
    /// When.
    pub(super) times: Vec<Instant>,
    /// How often a write had to be sent again.
    pub(super) retries: u64,
}

impl Written {
    /// The longest time around `from` to `to` in which nothing was acknowledged.
    pub(super) fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let inside = self.times.iter().filter(|at| **at >= from && **at <= to);
        let mut points: Vec<Instant> = inside.copied().chain([from, to]).collect();
        points.sort_unstable();
        points.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// How many were acknowledged in this time.
    pub(super) fn between(&self, from: Instant, to: Instant) -> usize {
        self.times.iter().filter(|at| **at >= from && **at <= to).count()
    }
}

impl Writers {
    /// One writer per address to start with, each going round when its node is away.
    pub(super) fn start(addresses: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..addresses.len())
            .map(|number| tokio::spawn(write(number, addresses.to_vec(), stop.clone())))
            .collect();
        Self { stop, tasks }
    }

    /// Lets each finish the write that it is at, and returns what was written.
    pub(super) async fn finish(mut self) -> Result<Written, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for task in self.tasks.drain(..) {
            let written = task.await.map_err(|error| error.to_string())??;
            all.acknowledged.extend(written.acknowledged);
            all.times.extend(written.times);
            all.retries += written.retries;
        }
        all.times.sort_unstable();
        Ok(all)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn write(
    number: usize,
    addresses: Vec<String>,
    stop: Arc<AtomicBool>,
) -> Result<Written, String> {
    let mut written = Written::default();
    let mut at = number;
    let mut client: Option<Client> = None;
    for count in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("live:{number}:{count:06}").into_bytes();
        let value = format!("value {count} of writer {number}").into_bytes();
        let begun = Instant::now();
        loop {
            let address = &addresses[at % addresses.len()];
            match attempt(&mut client, address, &key, &value).await {
                Ok(()) => break,
                Err(problem) if begun.elapsed() > LONGEST => {
                    return Err(format!("a write got no answer within {LONGEST:?}: {problem}"));
                }
                Err(_) => {
                    client = None;
                    at += 1;
                    written.retries += 1;
                    sleep(RETRY).await;
                }
            }
        }
        written.times.push(Instant::now());
        written.acknowledged.insert(key, value);
        sleep(PAUSE).await;
    }
    Ok(written)
}

async fn attempt(
    client: &mut Option<Client>,
    address: &str,
    key: &[u8],
    value: &[u8],
) -> Result<(), String> {
    let connected = if let Some(client) = client {
        client
    } else {
        let connected = Client::connect(address, ATTEMPT).await;
        client.insert(connected.map_err(|error| error.to_string())?)
    };
    match connected.command(&[b"SET", key, value]).await {
        Ok(reply) if reply.is_ok() => Ok(()),
        Ok(reply) => Err(reply.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_counts_the_time_to_both_ends() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let written =
            Written { times: vec![at(10), at(20), at(500), at(510)], ..Written::default() };
        assert_eq!(written.longest_gap(at(0), at(520)), Duration::from_millis(480));
        assert_eq!(written.longest_gap(at(0), at(2000)), Duration::from_millis(1490));
        assert_eq!(written.longest_gap(at(505), at(515)), Duration::from_millis(5));
        assert_eq!(written.between(at(15), at(505)), 2);
    }
}
