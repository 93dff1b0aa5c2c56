//! Latencies in buckets whose width grows with the value, so that every figure is within one
//! percent and memory does not grow with the number of requests (Tene's HdrHistogram).

/// Buckets per power of two: the error is at most 1/128.
const BITS: u32 = 7;
const SUB: u64 = 1 << BITS;

/// Counts of values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum: u128,
    max: u64,
}

fn bucket(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    let shift = value.ilog2() - BITS;
    ((u64::from(shift) + 1) * SUB + (value >> shift) - SUB) as usize
}

/// The largest value in a bucket.
fn upper(bucket: usize) -> u64 {
    let (row, column) = (bucket as u64 / SUB, bucket as u64 % SUB);
    if row == 0 {
        return column;
    }
    let shift = row - 1;
    // The last bucket's end is the largest number there is.
    (SUB + column + 1).checked_shl(shift as u32).map_or(u64::MAX, |end| end.wrapping_sub(1))
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        let bucket = bucket(value);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.sum += u128::from(value);
        self.max = self.max.max(value);
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many values there are.
    pub const fn count(&self) -> u64 {
        self.total
    }

    /// The largest value, exactly.
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// The mean, exactly; 0 of nothing.
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(u128::from(self.total)).unwrap_or(0) as u64
    }

    /// The value that `share` of all values do not exceed, within one percent; 0 of nothing.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper(bucket).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        let mut last = 0;
        for bucket_at in 1..7_000 {
            let top = upper(bucket_at);
            if top == u64::MAX {
                return;
            }
            assert_eq!(bucket(top), bucket_at, "{top}");
            assert_eq!(bucket(upper(bucket_at - 1) + 1), bucket_at);
            assert!(top > last);
            last = top;
        }
    }

    #[test]
    fn quantiles_of_a_known_distribution() {
        let mut histogram = Histogram::default();
        (1..=100_000).for_each(|value| histogram.record(value));
        for (share, exact) in [(0.5, 50_000), (0.99, 99_000), (0.999, 99_900), (1.0, 100_000)] {
            let found = histogram.quantile(share);
            assert!(found >= exact && found <= exact + exact / 100, "{share}: {found}");
        }
        assert_eq!(
            (histogram.count(), histogram.max(), histogram.mean()),
            (100_000, 100_000, 50_000)
        );
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }

    proptest! {
        #[test]
        fn every_value_is_found_within_one_percent(value: u64) {
            let mut histogram = Histogram::default();
            histogram.record(value);
            histogram.record(u64::MAX);
            let found = histogram.quantile(0.5);
            prop_assert!(found >= value);
            prop_assert!(found - value <= value / 100);
        }

        #[test]
        fn merged_counts_are_those_of_all_values(a: Vec<u64>, b: Vec<u64>) {
            let of = |values: &[u64]| {
                let mut histogram = Histogram::default();
                for value in values {
                    histogram.record(*value);
                }
                histogram
            };
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }
    }
}
