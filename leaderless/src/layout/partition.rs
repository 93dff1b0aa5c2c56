//! Partitions: the units of ownership, fixed for the life of a cluster.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::Token;

/// How many partitions a cluster has, as a power of two: between 16 and 65,536, by default 1,024.
///
/// Choose for the largest cluster ever wanted: partitions cannot split. With `n` equal nodes and
/// a replication factor `f` the loads differ by `n / (f x partitions)` at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Bits(u8);

/// The number of bits is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} partition bits: between 4 (16 partitions) and 16 (65,536) are allowed")]
pub struct BitsError(pub u8);

impl Bits {
    /// The default: 1,024 partitions.
    pub const DEFAULT: Self = Self(10);

    /// Checks the range, 4 to 16.
    pub fn new(bits: u8) -> Result<Self, BitsError> {
        if (4..=16).contains(&bits) { Ok(Self(bits)) } else { Err(BitsError(bits)) }
    }

    /// The number of partitions.
    pub fn partitions(self) -> u32 {
        1 << self.0
    }

    /// The bits.
    pub fn get(self) -> u8 {
        self.0
    }

    /// The partition of a token: its top bits.
    pub fn partition(self, token: Token) -> Partition {
        Partition((token.0 >> (64 - u32::from(self.0))) as u32)
    }

    /// The tokens of a partition.
    pub fn tokens(self, partition: Partition) -> RangeInclusive<u64> {
        let shift = 64 - u32::from(self.0);
        let first = u64::from(partition.0) << shift;
        first..=first | ((1 << shift) - 1)
    }

    /// All partitions, in the order of their tokens.
    pub fn all(self) -> impl Iterator<Item = Partition> {
        (0..self.partitions()).map(Partition)
    }
}

impl TryFrom<u8> for Bits {
    type Error = BitsError;
    fn try_from(bits: u8) -> Result<Self, BitsError> {
        Self::new(bits)
    }
}

impl From<Bits> for u8 {
    fn from(bits: Bits) -> u8 {
        bits.0
    }
}

/// One partition of a cluster, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition(pub u32);

impl Partition {
    /// Its place in a list of all partitions.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of partitions: one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionSet {
    /// Without words that are zero at the end, so that equal sets have equal bytes.
    words: Vec<u64>,
}

impl PartitionSet {
    /// All partitions of a cluster.
    pub fn all(bits: Bits) -> Self {
        bits.all().collect()
    }

    /// Adds a partition; whether it is new.
    pub fn insert(&mut self, partition: Partition) -> bool {
        let (word, bit) = (partition.index() / 64, 1 << (partition.0 % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Takes a partition out; whether it was there.
    pub fn remove(&mut self, partition: Partition) -> bool {
        let (word, bit) = (partition.index() / 64, 1 << (partition.0 % 64));
        let there = self.contains(partition);
        if there {
            self.words[word] &= !bit;
            while self.words.last() == Some(&0) {
                self.words.pop();
            }
        }
        there
    }

    /// Whether the partition is in the set.
    pub fn contains(&self, partition: Partition) -> bool {
        let word = self.words.get(partition.index() / 64);
        word.is_some_and(|word| word & (1 << (partition.0 % 64)) != 0)
    }

    /// How many partitions.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The partitions in order.
    pub fn iter(&self) -> impl Iterator<Item = Partition> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let bits = (0..64u32).filter(move |bit| word & (1 << bit) != 0);
            bits.map(move |bit| Partition(at as u32 * 64 + bit))
        })
    }

    /// Whether no partition is beyond the last of a cluster, and the bytes are the set's only ones.
    pub(super) fn fits(&self, bits: Bits) -> bool {
        self.words.last() != Some(&0)
            && self.words.len() <= (bits.partitions() as usize).div_ceil(64)
            && self.iter().all(|partition| partition.0 < bits.partitions())
    }
}

impl FromIterator<Partition> for PartitionSet {
    fn from_iter<I: IntoIterator<Item = Partition>>(partitions: I) -> Self {
        let mut set = Self::default();
        for partition in partitions {
            set.insert(partition);
        }
        set
    }
}

impl Extend<Partition> for PartitionSet {
    fn extend<I: IntoIterator<Item = Partition>>(&mut self, partitions: I) {
        for partition in partitions {
            self.insert(partition);
        }
    }
}
