//! Snapshots: a whole state on its way to a member that the log cannot help any more.
//!
//! The leader pins its state and streams it in chunks; nothing is written on its side, and the
//! memory it takes is one window of chunks. The receiver fills a new engine generation chunk by
//! chunk and names the next chunk it lacks, so a broken link costs one window. When all is there it
//! checks number, hash and position, and only then switches to the new generation, atomically.
//!
//! The stream, cut into chunks at any byte:
//!
//! ```text
//! 1 | length u8 | name                               the following items are of this keyspace
//! 2 | key length u32 | key | value length u32 | value
//! 0 | items u64 | sum of the items' hashes u64       the end
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hasher;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use common::mutate;
use common::storage::engine::{
    Batch, Engine, EngineError, KeyRange, Keyspace, MAX_KEY, MAX_NAME, PageLimit,
};
use siphasher::sip::SipHasher13;

use crate::apply::{Applied, META, Pinned, read_applied};
use crate::state_hash::StateHash;
use crate::watch::feed::FEED;

/// The largest value in a snapshot.
const MAX_VALUE: usize = 64 << 20;
/// The most keyspaces of a snapshot.
const MAX_KEYSPACES: usize = 64;

const NAME: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 0;

/// What one item adds to the hash: independent of the order of items.
fn item_hash(name: &str, key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x7465_7263_6574, 0x736e_6170);
    for part in [name.as_bytes(), key, value] {
        hasher.write_u64(part.len() as u64);
        hasher.write(part);
    }
    hasher.finish()
}

/// Number and hash of the items of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    items: u64,
    hash: u64,
}

/// The sums of a stream: of all items, and of those that count for the state's hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    all: Sum,
    state: Sum,
}

impl Counted {
    /// Adds an item. The member's own rows are not what members compare.
    pub(crate) fn add(&mut self, keyspace: Keyspace, key: &[u8], value: &[u8]) {
        let hash = item_hash(keyspace.0, key, value);
        let counts = [Some(&mut self.all), Some(&mut self.state).filter(|_| keyspace != META)];
        for sum in counts.into_iter().flatten() {
            sum.items += 1;
            sum.hash = sum.hash.wrapping_add(hash);
        }
    }

    /// The hash of the state.
    pub(crate) const fn state(&self) -> StateHash {
        StateHash { items: self.state.items, hash: self.state.hash }
    }
}

/// A keyspace known by its name. Names are kept for the life of the process; there are few.
pub(crate) fn keyspace(name: &str) -> Result<Keyspace, EngineError> {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return Ok(Keyspace(known));
    }
    if names.len() >= 16 * MAX_KEYSPACES {
        return Err(EngineError::Refused(format!("too many keyspaces: {name} is one too many")));
    }
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(name);
    Ok(Keyspace(name))
}

/// A pinned state, read out as a stream of bytes.
pub(crate) struct Source {
    pinned: Pinned,
    /// The keyspace being read, and from where.
    current: Option<(Keyspace, KeyRange)>,
    names: std::vec::IntoIter<String>,
    buffer: BytesMut,
    sum: Counted,
    ended: bool,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("at", &self.pinned.at.at).finish_non_exhaustive()
    }
}

impl Source {
    /// Begins to read a state.
    pub(crate) fn new(pinned: Pinned) -> Self {
        // What was changed on the way to this state is the sender's own.
        let mut names = pinned.keyspaces.clone();
        names.retain(|name| name != FEED.0);
        let names = names.into_iter();
        let (buffer, sum) = (BytesMut::new(), Counted::default());
        Self { pinned, current: None, names, buffer, sum, ended: false }
    }

    /// The hash of the part of the state that was read so far.
    pub(crate) const fn state(&self) -> StateHash {
        self.sum.state()
    }

    /// The position of the state.
    pub(crate) const fn at(&self) -> &Applied {
        &self.pinned.at
    }

    /// The next bytes, at most `size`, and whether they are the last.
    pub(crate) fn next_chunk(&mut self, size: usize) -> Result<(Bytes, bool), EngineError> {
        while self.buffer.len() < size && !self.ended {
            self.read_page(size)?;
        }
        let take = size.min(self.buffer.len());
        let chunk = self.buffer.split_to(take).freeze();
        Ok((chunk, self.ended && self.buffer.is_empty()))
    }

    fn read_page(&mut self, size: usize) -> Result<(), EngineError> {
        let Some((keyspace, range)) = &mut self.current else {
            let Some(name) = self.names.next() else {
                self.ended = true;
                self.buffer.put_u8(END);
                self.buffer.put_u64_le(self.sum.all.items);
                self.buffer.put_u64_le(self.sum.all.hash);
                return Ok(());
            };
            self.buffer.put_u8(NAME);
            self.buffer.put_u8(name.len() as u8);
            self.buffer.put_slice(name.as_bytes());
            self.current = Some((self::keyspace(&name)?, KeyRange::all()));
            return Ok(());
        };
        let limit = PageLimit { items: 4_096, bytes: size };
        let page = self.pinned.state.scan(*keyspace, range, limit)?;
        let next = page.items.last().map(|(key, _)| range.after(key.clone()));
        let last = mutate!(
            "snapshot_drops_last_key",
            0,
            usize::from(!page.more && !keyspace.0.starts_with(crate::apply::OWN_PREFIX))
        );
        let sessions = mutate!(
            "dedup_not_in_snapshot",
            0,
            if *keyspace == crate::session::CLIENTS { page.items.len() } else { 0 }
        );
        for (key, value) in page.items.iter().rev().skip(last + sessions).rev() {
            self.sum.add(*keyspace, key, value);
            self.buffer.put_u8(ITEM);
            self.buffer.put_u32_le(key.len() as u32);
            self.buffer.put_slice(key);
            self.buffer.put_u32_le(value.len() as u32);
            self.buffer.put_slice(value);
        }
        match next {
            Some(next) if page.more => *range = next,
            _ => self.current = None,
        }
        Ok(())
    }
}

/// Why a received snapshot is refused. The state is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The stream cannot be read.
    #[error("the snapshot is damaged: {0}; ask for it again")]
    Damaged(String),
    /// Bytes are missing.
    #[error("the snapshot is not complete")]
    Incomplete,
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

fn damaged<T>(what: &str) -> Result<T, SnapshotError> {
    Err(SnapshotError::Damaged(what.to_owned()))
}

/// A stream that is being read: its items one by one, and their sum.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    buffer: BytesMut,
    keyspace: Option<Keyspace>,
    names: usize,
    sum: Counted,
    ended: bool,
}

/// One parsed element of the stream.
enum Element {
    Name(String),
    Item(Bytes, Bytes),
    End(Sum),
}

impl Reading {
    /// Takes the next bytes of the stream, and calls `each` with every item that they complete.
    pub(crate) fn take(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(Keyspace, Bytes, Bytes),
    ) -> Result<(), SnapshotError> {
        self.buffer.extend_from_slice(chunk);
        while let Some(element) = parse(&mut self.buffer)? {
            if self.ended {
                return damaged("bytes follow its end");
            }
            match element {
                Element::Name(name) => {
                    self.names += 1;
                    if self.names > MAX_KEYSPACES {
                        return damaged("too many keyspaces");
                    }
                    self.keyspace = Some(keyspace(&name)?);
                }
                Element::Item(key, value) => {
                    let Some(keyspace) = self.keyspace else {
                        return damaged("an item before the first keyspace");
                    };
                    self.sum.add(keyspace, &key, &value);
                    each(keyspace, key, value);
                }
                Element::End(sum) => {
                    if sum != self.sum.all {
                        return damaged("number or hash of its items differ from what it says");
                    }
                    self.ended = true;
                }
            }
        }
        Ok(())
    }

    /// Checks that all is there, and returns the hash of the state.
    pub(crate) fn finish(&self) -> Result<StateHash, SnapshotError> {
        if !self.ended || !self.buffer.is_empty() {
            return Err(SnapshotError::Incomplete);
        }
        Ok(self.sum.state())
    }
}

/// An engine that is being filled from a stream.
pub(crate) struct Sink {
    engine: Arc<dyn Engine>,
    reading: Reading,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("reading", &self.reading).finish_non_exhaustive()
    }
}

impl Sink {
    /// Fills an empty engine.
    pub(crate) fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, reading: Reading::default() }
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn take(&mut self, chunk: &[u8]) -> Result<(), SnapshotError> {
        let mut batch = Batch::new();
        self.reading.take(chunk, |keyspace, key, value| batch.put(keyspace, key, value))?;
        if !batch.is_empty() {
            self.engine.write(batch)?;
        }
        Ok(())
    }

    /// Checks that all is there and that the state is at the position it was offered as.
    pub(crate) fn finish(&self, at: &Applied) -> Result<(), SnapshotError> {
        self.reading.finish()?;
        if read_applied(self.engine.as_ref())? != *at {
            return damaged("its content is at another position than it says");
        }
        Ok(())
    }
}

/// The next whole element, or `None` until more bytes are there.
fn parse(buffer: &mut BytesMut) -> Result<Option<Element>, SnapshotError> {
    let Some(kind) = buffer.first().copied() else { return Ok(None) };
    let rest = &buffer[1..];
    match kind {
        NAME => {
            let Some(length) = rest.first().map(|l| usize::from(*l)) else { return Ok(None) };
            if length == 0 || length > MAX_NAME {
                return damaged("a keyspace's name has no usable length");
            }
            let Some(name) = rest.get(1..=length) else { return Ok(None) };
            let Ok(name) = std::str::from_utf8(name).map(str::to_owned) else {
                return damaged("a keyspace's name is not text");
            };
            buffer.advance(2 + length);
            Ok(Some(Element::Name(name)))
        }
        ITEM => {
            let Some(key) = length_at(rest, 0, MAX_KEY)? else { return Ok(None) };
            let Some(value) = length_at(rest, 4 + key, MAX_VALUE)? else { return Ok(None) };
            if rest.len() < 8 + key + value {
                return Ok(None);
            }
            buffer.advance(5);
            let key = buffer.split_to(key).freeze();
            buffer.advance(4);
            let value = buffer.split_to(value).freeze();
            Ok(Some(Element::Item(key, value)))
        }
        END => {
            if rest.len() < 16 {
                return Ok(None);
            }
            buffer.advance(1);
            Ok(Some(Element::End(Sum { items: buffer.get_u64_le(), hash: buffer.get_u64_le() })))
        }
        other => damaged(&format!("an element of the unknown kind {other}")),
    }
}

fn length_at(bytes: &[u8], at: usize, limit: usize) -> Result<Option<usize>, SnapshotError> {
    let Some(length) = bytes.get(at..).and_then(|b| b.first_chunk::<4>()) else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > limit {
        return damaged(&format!("{length} bytes are over the limit of {limit}"));
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use common::storage::engine::{MemoryEngine, Read};
    use proptest::prelude::*;

    use super::*;

    fn pinned(engine: &MemoryEngine) -> Pinned {
        Pinned {
            state: engine.snapshot().unwrap(),
            keyspaces: engine.keyspaces().unwrap(),
            at: Applied::default(),
        }
    }

    fn stream(engine: &MemoryEngine, size: usize) -> Vec<Bytes> {
        let mut source = Source::new(pinned(engine));
        let mut chunks = Vec::new();
        loop {
            let (chunk, last) = source.next_chunk(size).unwrap();
            assert!(chunk.len() <= size);
            chunks.push(chunk);
            if last {
                return chunks;
            }
        }
    }

    fn filled(items: &[(u8, Vec<u8>, Vec<u8>)]) -> MemoryEngine {
        let engine = MemoryEngine::volatile();
        let mut batch = Batch::new();
        for (space, key, value) in items {
            let name = ["a", "b", "c"][usize::from(space % 3)];
            batch.put(keyspace(name).unwrap(), key.clone(), value.clone());
        }
        engine.write(batch).unwrap();
        engine
    }

    fn receive(chunks: &[Bytes]) -> Result<Arc<MemoryEngine>, SnapshotError> {
        let engine = Arc::new(MemoryEngine::volatile());
        let mut sink = Sink::new(engine.clone());
        for chunk in chunks {
            sink.take(chunk)?;
        }
        sink.finish(&Applied::default())?;
        Ok(engine)
    }

    fn items() -> impl Strategy<Value = Vec<(u8, Vec<u8>, Vec<u8>)>> {
        let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
        prop::collection::vec((any::<u8>(), bytes(20), bytes(200)), 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_is_sent_arrives_whatever_the_chunks(items in items(), size in 1_usize..600) {
            let engine = filled(&items);
            let received = receive(&stream(&engine, size)).unwrap();
            for name in ["a", "b", "c"] {
                let all = |e: &dyn Read| {
                    let limit = PageLimit { items: 1_000, bytes: 1 << 20 };
                    e.scan(keyspace(name).unwrap(), &KeyRange::all(), limit).unwrap().items
                };
                prop_assert_eq!(all(&engine), all(received.as_ref()));
            }
        }

        #[test]
        fn a_flipped_bit_or_a_missing_end_is_refused(items in items(), at in any::<prop::sample::Index>()) {
            let whole: Vec<u8> = stream(&filled(&items), 64).concat();
            let cut = at.index(whole.len());
            prop_assert!(receive(&[Bytes::copy_from_slice(&whole[..cut])]).is_err());
            let mut damaged = whole;
            damaged[cut] ^= 0x10;
            prop_assert!(receive(&[Bytes::from(damaged)]).is_err());
        }

        #[test]
        fn no_bytes_make_the_receiver_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = receive(&[Bytes::from(bytes)]);
        }
    }
}
