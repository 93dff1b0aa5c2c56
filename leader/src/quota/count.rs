//! Counting: what a batch adds, and the rows that remember it.

use bytes::Bytes;
use common::codec::{self, Format};
use common::storage::engine::{EngineError, KeyRange, Keyspace, PageLimit, Read};

use super::{Change, Quota, Usage};
use crate::apply::OWN_PREFIX;
use crate::snapshot::keyspace;

/// Where usage and limits are.
pub(crate) const USAGE: Keyspace = Keyspace("leader.usage");
const SIZE: &[u8] = b"usage";
/// The limits' row.
pub(crate) const LIMITS: &[u8] = b"quota";

const USAGE_FORMAT: Format = Format { magic: *b"TLus", version: 1 };
const QUOTA_FORMAT: Format = Format { magic: *b"TLqu", version: 1 };
/// Both are a few numbers.
const LARGEST: usize = 256;

/// What one member knows of its state's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) usage: Usage,
    /// What was set by an entry; none where the configuration decides.
    pub(crate) quota: Option<Quota>,
}

impl Counter {
    /// Reads both rows. A state from before they were written is counted once.
    pub(crate) fn load(
        state: &dyn Read,
        keyspaces: &[String],
        holds_keys: &dyn Fn(Keyspace) -> bool,
    ) -> Result<Self, EngineError> {
        let usage = match read_usage(state)? {
            Some(usage) => usage,
            None => count(state, keyspaces, holds_keys)?,
        };
        let quota = state.get(USAGE, LIMITS)?;
        let quota = quota.map(|bytes| decode(QUOTA_FORMAT, &bytes)).transpose()?;
        Ok(Self { usage, quota })
    }

    /// Adds what a batch changes; returns the row.
    pub(crate) fn add(&mut self, change: Change) -> (Bytes, Bytes) {
        self.usage = self.usage.with(change);
        (Bytes::from_static(SIZE), encode_usage(self.usage))
    }
}

/// The usage that a state says it has.
pub(crate) fn read_usage(state: &dyn Read) -> Result<Option<Usage>, EngineError> {
    let usage = state.get(USAGE, SIZE)?;
    usage.map(|bytes| decode(USAGE_FORMAT, &bytes)).transpose()
}

/// Counts a whole state, in pages.
pub(crate) fn count(
    state: &dyn Read,
    keyspaces: &[String],
    holds_keys: &dyn Fn(Keyspace) -> bool,
) -> Result<Usage, EngineError> {
    const PAGE: PageLimit = PageLimit { items: 4_096, bytes: 1 << 20 };
    let mut usage = Usage::default();
    for name in keyspaces.iter().filter(|name| !name.starts_with(OWN_PREFIX)) {
        let (keyspace, mut range) = (keyspace(name)?, KeyRange::all());
        loop {
            let page = state.scan(keyspace, &range, PAGE)?;
            for (key, value) in &page.items {
                usage.bytes += (key.len() + value.len()) as u64;
                usage.keys += u64::from(holds_keys(keyspace));
            }
            match page.items.last() {
                Some((last, _)) if page.more => range = range.after(last.clone()),
                _ => break,
            }
        }
    }
    Ok(usage)
}

/// The value of the usage's row.
fn encode_usage(usage: Usage) -> Bytes {
    codec::encode(USAGE_FORMAT, &usage)
}

/// The value of the limits' row.
pub(crate) fn encode_quota(quota: Quota) -> Bytes {
    codec::encode(QUOTA_FORMAT, &quota)
}

fn decode<T: serde::de::DeserializeOwned>(format: Format, bytes: &[u8]) -> Result<T, EngineError> {
    codec::decode(format, bytes, LARGEST)
        .map_err(|error| EngineError::Corrupt(format!("the size of the state: {error}")))
}

#[cfg(test)]
mod tests {
    use super::super::Limit;
    use super::*;

    #[test]
    fn the_rows_of_version_1_keep_their_bytes() {
        let hex = |bytes: Bytes| bytes.iter().fold(String::new(), |h, b| h + &format!("{b:02x}"));
        let usage = Usage { bytes: 1_000, keys: 7 };
        let row = encode_usage(usage);
        assert_eq!(decode::<Usage>(USAGE_FORMAT, &row), Ok(usage));
        assert_eq!(&hex(row)[28..], "fbe80307");
        let bytes = Limit { soft: Some(80), hard: Some(100) };
        let quota = Quota { bytes, keys: Limit { soft: None, hard: Some(9) } };
        let row = encode_quota(quota);
        assert_eq!(decode::<Quota>(QUOTA_FORMAT, &row), Ok(quota));
        assert_eq!(&hex(row)[28..], "01500164000109");
    }
}
