//! The replicated clock, as its leader keeps it.
//!
//! During a term it moves with the leader's **monotonic** clock, so a jump of wall time changes
//! nothing. At the start of a term it takes the median of the voters' wall clocks: one machine whose
//! clock is an hour off cannot expire what is not due. The state machine's clock is the maximum of
//! its last value and an entry's stamp, so it never goes back, whoever leads.

use common::clock::Hlc;
use common::env::Mono;

/// The clock of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TermClock {
    term: u64,
    start: Hlc,
    since: Mono,
}

impl TermClock {
    /// The clock of a term that starts now: at the voters' median, and after all that was stamped.
    pub(crate) fn start(term: u64, last: Hlc, walls: &[u64], now: Mono) -> Self {
        let wall = median(walls).map_or(Hlc::ZERO, |millis| Hlc::new(millis, 0));
        Self { term, start: last.next().max(wall), since: now }
    }

    /// The term it belongs to.
    pub(crate) const fn term(&self) -> u64 {
        self.term
    }

    /// The time.
    pub(crate) fn read(&self, now: Mono) -> Hlc {
        let passed = now.since(self.since).as_millis() as u64;
        Hlc::new(self.start.millis() + passed, self.start.counter())
    }
}

/// The middle one of an odd number of clocks, the earlier middle one of an even number: late expiry
/// is the smaller harm.
fn median(walls: &[u64]) -> Option<u64> {
    let mut sorted = walls.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_wrong_clock_of_three_does_not_matter() {
        for wrong in [0, 9_999_999_999] {
            let clock = TermClock::start(1, Hlc::ZERO, &[1_000, wrong, 1_002], Mono::default());
            assert!((1_000..=1_002).contains(&clock.read(Mono::default()).millis()), "{wrong}");
        }
    }

    #[test]
    fn of_two_clocks_the_earlier_counts() {
        let clock = TermClock::start(1, Hlc::ZERO, &[5_000, 1_000], Mono::default());
        assert_eq!(clock.read(Mono::default()).millis(), 1_000);
    }

    #[test]
    fn it_starts_after_what_was_stamped_and_moves_with_monotonic_time() {
        let last = Hlc::new(7_000, 9);
        let clock = TermClock::start(3, last, &[1_000], Mono::default());
        assert!(clock.read(Mono::default()) > last);
        let later = Mono(Duration::from_millis(250));
        assert_eq!(clock.read(later).millis(), 7_250);
        assert_eq!(clock.term(), 3);
    }
}
