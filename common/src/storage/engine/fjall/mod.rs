//! An engine on disk: an LSM tree of the `fjall` library.
//!
//! All keyspaces live in one tree, a key being stored as its keyspace's name, a zero byte, and the
//! key. The library gives every tree a memory buffer and a flush of its own, under one journal
//! that it cuts silently where it is damaged (fjall-rs/fjall#311). With several trees such a cut
//! could leave one keyspace newer than another; with one tree it leaves an earlier state, which
//! the log above brings forward again. A cut in an older journal can still leave a hole;
//! [`marks`] tell that, and the engine is refused.
//!
//! The library writes beneath the seams, on threads and files of its own, so this engine is for
//! real machines. The simulator uses [`MemoryEngine`](super::MemoryEngine), which keeps the same
//! contract.

mod engines;
mod error;
mod marks;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use fjall::{Database, KeyspaceCreateOptions, PersistMode, Readable};

pub use engines::FjallEngines;

use super::{Batch, Change, Engine, EngineError, KeyRange, Keyspace, Page, PageLimit, Read};
use marks::Marks;

/// The one tree of the database.
const TREE: &str = "state";
/// Separates a keyspace's name from the key. Names do not contain it.
const SEPARATOR: u8 = 0;
/// Below this key, every keyspace that was ever written. Keys of the engine's own stand under the
/// empty keyspace name.
const OWN_NAME: &[u8] = &[SEPARATOR, b'k'];

/// The knobs of an engine on disk.
#[derive(Clone, Debug)]
pub struct FjallConfig {
    /// Bytes of cache for blocks of the tree. Default 32 MiB, any size. More makes reads of data
    /// that does not fit memory faster.
    pub cache_bytes: u64,
    /// Bytes written before the buffer in memory goes to disk as a table. Default 16 MiB, at least
    /// 1 MiB. At most five such buffers are in memory. More means fewer, larger tables.
    pub buffer_bytes: u64,
    /// Threads that flush and compact. Default 2, at least 1. With one, a long compaction holds up
    /// flushes, and so writes.
    pub workers: usize,
}

impl Default for FjallConfig {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20, buffer_bytes: 16 << 20, workers: 2 }
    }
}

/// The library's smallest limit for its journals. The log above is the one that counts, so more
/// would only be space.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Open files kept, as the library's tables grow with the data.
const OPEN_FILES: usize = 256;

/// An ordered key-value store on disk.
pub struct FjallEngine {
    home: Arc<Home>,
    writer: Mutex<Writer>,
}

/// What only the writer needs.
#[derive(Debug)]
struct Writer {
    names: BTreeSet<String>,
    marks: Marks,
}

/// The open database. Engine and snapshots share it; when the last is gone, it is closed, and
/// removed if another generation is current.
struct Home {
    /// Taken only by `drop`.
    open: Option<Open>,
    path: PathBuf,
    retired: AtomicBool,
    /// A write found the disk full. The library takes none after that, whatever the disk says.
    full: AtomicBool,
}

struct Open {
    db: Database,
    tree: fjall::Keyspace,
}

impl Home {
    fn open(&self) -> &Open {
        self.open.as_ref().expect("the database is closed only by drop")
    }

    fn error(&self, error: fjall::Error) -> EngineError {
        let error = error::of(&self.path, error, self.full.load(Ordering::Relaxed));
        if matches!(error, EngineError::Full(_)) {
            self.full.store(true, Ordering::Relaxed);
        }
        error
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for Home {
    #[expect(clippy::disallowed_methods, reason = "removing files takes long and has no caller")]
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        if self.retired.load(Ordering::Acquire) {
            let path = std::mem::take(&mut self.path);
            std::thread::spawn(move || {
                drop(open);
                // A folder that stays is only space: the next opening removes it.
                if let Err(error) = std::fs::remove_dir_all(&path) {
                    tracing::warn!(%error, path = %path.display(), "a former engine's folder stays");
                }
            });
        }
    }
}

impl fmt::Debug for FjallEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallEngine").field("path", &self.home.path).finish_non_exhaustive()
    }
}

impl FjallEngine {
    /// Opens or makes an engine in a folder of its own. Blocks.
    fn open(path: PathBuf, config: &FjallConfig) -> Result<Self, EngineError> {
        let failed = |e| error::of(&path, e, false);
        let db = Database::builder(&path)
            .cache_size(config.cache_bytes)
            .worker_threads(config.workers.max(1))
            .max_cached_files(Some(OPEN_FILES))
            .max_journaling_size(JOURNAL_BYTES)
            .manual_journal_persist(true)
            .open()
            .map_err(failed)?;
        let buffer = config.buffer_bytes.max(1 << 20);
        let options = || KeyspaceCreateOptions::default().max_memtable_size(buffer);
        let tree = db.keyspace(TREE, options).map_err(failed)?;
        let names = read_names(&db, &tree).map_err(failed)?;
        let marks = Marks::open(&path, &db, &tree, buffer)?;
        let home = Arc::new(Home {
            open: Some(Open { db, tree }),
            path,
            retired: AtomicBool::new(false),
            full: AtomicBool::new(false),
        });
        Ok(Self { home, writer: Mutex::new(Writer { names, marks }) })
    }

    /// Whether anyone but one owner uses it.
    fn is_shared(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || Arc::strong_count(&self.home) > 1
    }

    fn retire(&self) {
        self.home.retired.store(true, Ordering::Release);
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_names(db: &Database, tree: &fjall::Keyspace) -> fjall::Result<BTreeSet<String>> {
    db.snapshot()
        .prefix(tree, OWN_NAME)
        .map(|item| Ok(String::from_utf8_lossy(&item.key()?[OWN_NAME.len()..]).into_owned()))
        .collect()
}

/// A key as the tree stores it.
fn stored(keyspace: &str, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(keyspace.len() + 1 + key.len());
    out.extend_from_slice(keyspace.as_bytes());
    out.push(SEPARATOR);
    out.extend_from_slice(key);
    out
}

impl Read for FjallEngine {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.home.open().tree.get(stored(keyspace.0, key));
        value.map(|v| v.map(copy)).map_err(|e| self.home.error(e))
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: PageLimit,
    ) -> Result<Page, EngineError> {
        self.scan_named(keyspace.0, range, limit)
    }
}

#[async_trait]
impl Engine for FjallEngine {
    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        batch.check()?;
        let open = self.home.open();
        let mut writer = self.writer();
        let mut out = open.db.batch();
        let (mut fresh, mut bytes) = (BTreeSet::new(), 0);
        // Within a batch the library tells changes of one key apart by nothing.
        for change in batch.into_last_changes() {
            let (keyspace, key, value) = match change {
                Change::Put(keyspace, key, value) => (keyspace, key, Some(value)),
                Change::Delete(keyspace, key) => (keyspace, key, None),
            };
            if !writer.names.contains(keyspace.0) && fresh.insert(keyspace.0) {
                let mut name = OWN_NAME.to_vec();
                name.extend_from_slice(keyspace.0.as_bytes());
                out.insert(&open.tree, name, []);
            }
            bytes += (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64;
            match value {
                Some(value) => out.insert(&open.tree, stored(keyspace.0, &key), &value[..]),
                None => out.remove(&open.tree, stored(keyspace.0, &key)),
            }
        }
        writer.marks.stage(&mut out, &open.tree);
        out.commit().map_err(|e| self.home.error(e))?;
        writer.marks.written(bytes);
        writer.names.extend(fresh.into_iter().map(str::to_owned));
        Ok(())
    }

    fn snapshot(&self) -> Result<Arc<dyn Read>, EngineError> {
        let view = self.home.open().db.snapshot();
        Ok(Arc::new(Snapshot { view, home: Arc::clone(&self.home) }))
    }

    fn keyspaces(&self) -> Result<Vec<String>, EngineError> {
        Ok(self.writer().names.iter().cloned().collect())
    }

    fn scan_named(
        &self,
        keyspace: &str,
        range: &KeyRange,
        limit: PageLimit,
    ) -> Result<Page, EngineError> {
        let view = self.home.open().db.snapshot();
        scan(&self.home, &view, keyspace, range, limit)
    }

    #[expect(clippy::disallowed_methods, reason = "a sync blocks for long, beneath the seams")]
    async fn checkpoint(&self) -> Result<(), EngineError> {
        let home = Arc::clone(&self.home);
        tokio::task::spawn_blocking(move || {
            home.open().db.persist(PersistMode::SyncAll).map_err(|e| home.error(e))
        })
        .await
        .unwrap_or_else(|e| Err(EngineError::Io(format!("the sync ended early: {e}"))))
    }

    fn size(&self) -> u64 {
        let open = self.home.open();
        open.tree.disk_space() + open.db.journal_disk_space().unwrap_or(0)
    }
}

/// The state as it was after one batch.
struct Snapshot {
    // Before `home`: a view must be gone when the database is closed.
    view: fjall::Snapshot,
    home: Arc<Home>,
}

impl Read for Snapshot {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.view.get(&self.home.open().tree, stored(keyspace.0, key));
        value.map(|v| v.map(copy)).map_err(|e| self.home.error(e))
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: PageLimit,
    ) -> Result<Page, EngineError> {
        scan(&self.home, &self.view, keyspace.0, range, limit)
    }
}

/// A copy, because the library's value may keep a whole block in memory.
#[expect(clippy::needless_pass_by_value, reason = "it is mapped over owned values")]
fn copy(value: fjall::Slice) -> Bytes {
    Bytes::copy_from_slice(&value)
}

fn scan(
    home: &Home,
    view: &fjall::Snapshot,
    keyspace: &str,
    range: &KeyRange,
    limit: PageLimit,
) -> Result<Page, EngineError> {
    let mut page = Page::default();
    if range.is_empty() {
        return Ok(page);
    }
    let prefix = stored(keyspace, b"");
    let start = match &range.start {
        Bound::Included(key) => Bound::Included(stored(keyspace, key)),
        Bound::Excluded(key) => Bound::Excluded(stored(keyspace, key)),
        Bound::Unbounded => Bound::Included(prefix.clone()),
    };
    let end = match &range.end {
        Bound::Included(key) => Bound::Included(stored(keyspace, key)),
        Bound::Excluded(key) => Bound::Excluded(stored(keyspace, key)),
        Bound::Unbounded => {
            let mut end = keyspace.as_bytes().to_vec();
            end.push(SEPARATOR + 1);
            Bound::Excluded(end)
        }
    };
    let mut bytes = 0;
    for item in view.range(&home.open().tree, (start, end)) {
        let full = page.items.len() >= limit.items || bytes >= limit.bytes;
        if full && !page.items.is_empty() {
            page.more = true;
            break;
        }
        let (key, value) = item.into_inner().map_err(|e| home.error(e))?;
        let key = Bytes::copy_from_slice(&key[prefix.len()..]);
        bytes += key.len() + value.len();
        page.items.push((key, copy(value)));
    }
    Ok(page)
}
