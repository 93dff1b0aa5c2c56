//! The fold of everything that crossed a seam in one run, and the last of it in words.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The fold of everything that crossed a seam in one run: equal folds, equal runs.
///
/// What enters it must be a function of the seed alone: no task ids, addresses, thread ids or
/// counters that live longer than a run.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Fold>>);

#[derive(Debug, Default)]
struct Fold {
    low: u64,
    high: u64,
    events: u64,
    keep: usize,
    last: VecDeque<Event>,
}

/// One crossing of a seam, as kept by [`Trace::keeping`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Simulated time.
    pub at: Duration,
    /// The node whose seam it was; 0 is the world itself.
    pub node: u64,
    /// Seam and direction.
    pub what: String,
    /// Bytes of payload.
    pub bytes: usize,
    /// Checksum of the payload.
    pub checksum: u32,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, micros) = (self.at.as_secs(), self.at.subsec_micros());
        write!(f, "{secs:>5}.{micros:06} n{} {}", self.node, self.what)?;
        if self.bytes > 0 {
            write!(f, " ({} bytes, {:08x})", self.bytes, self.checksum)?;
        }
        Ok(())
    }
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Trace {
    /// A trace that also keeps the last `events` crossings.
    pub fn keeping(events: usize) -> Self {
        Self(Arc::new(Mutex::new(Fold { keep: events, ..Fold::default() })))
    }

    fn fold(&self) -> MutexGuard<'_, Fold> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes one crossing: simulated nanoseconds, node, seam and direction, payload.
    pub fn note(&self, nanos: u64, node: u64, what: &str, payload: &[u8]) {
        let mut fold = self.fold();
        let name = what.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| mix(h ^ u64::from(b)));
        let checksum = crc32c::crc32c(payload);
        let body = (u64::from(checksum) << 32) | payload.len() as u64;
        for word in [nanos, node, name, body] {
            fold.low = mix(fold.low ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            fold.high = mix(fold.high.rotate_left(23) ^ fold.low);
        }
        fold.events += 1;
        if fold.keep > 0 {
            if fold.last.len() == fold.keep {
                fold.last.pop_front();
            }
            let at = Duration::from_nanos(nanos);
            let what = what.to_owned();
            fold.last.push_back(Event { at, node, what, bytes: payload.len(), checksum });
        }
    }

    /// The fold so far, and how many crossings it holds.
    pub fn digest(&self) -> (u128, u64) {
        let fold = self.fold();
        ((u128::from(fold.high) << 64) | u128::from(fold.low), fold.events)
    }

    /// The last crossings, oldest first: empty unless made by [`Trace::keeping`].
    pub fn last(&self) -> Vec<Event> {
        self.fold().last.iter().cloned().collect()
    }
}
