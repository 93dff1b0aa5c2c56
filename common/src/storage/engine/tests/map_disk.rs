//! A disk in memory that loses what was not synced, in the smallest form that an engine needs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::storage::disk::{Disk, DiskError, File, Open};
use async_trait::async_trait;
use bytes::Bytes;

type Content = Arc<Mutex<Body>>;

#[derive(Debug, Default)]
struct Body {
    now: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug, Default)]
struct Names {
    now: BTreeMap<String, Content>,
    synced: BTreeMap<String, Content>,
    /// How many more changes the disk takes before it is full.
    room: Option<u64>,
}

/// A disk whose clones share their files.
#[derive(Clone, Debug, Default)]
pub(super) struct MapDisk(Arc<Mutex<Names>>);

impl MapDisk {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap()
    }

    /// Forgets every name and byte that was not synced.
    pub(super) fn crash(&self) {
        let mut names = self.names();
        names.now = names.synced.clone();
        names.room = None;
        for body in names.now.values() {
            let mut body = body.lock().unwrap();
            body.now = body.synced.clone();
        }
    }

    /// Refuses every change after so many more.
    pub(super) fn full_after(&self, changes: u64) {
        self.names().room = Some(changes);
    }

    /// The file's bytes, to look at and to damage.
    pub(super) fn with<T>(&self, path: &str, f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let content = Arc::clone(&self.names().now[path]);
        let mut body = content.lock().unwrap();
        let out = f(&mut body.now);
        body.synced = body.now.clone();
        out
    }

    fn change(&self, path: &str) -> Result<(), DiskError> {
        match &mut self.names().room {
            Some(0) => Err(DiskError::Full { path: path.to_owned() }),
            Some(room) => {
                *room -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

#[async_trait]
impl Disk for MapDisk {
    async fn open(&self, path: &str, how: Open) -> Result<Arc<dyn File>, DiskError> {
        let mut names = self.names();
        let content = match (names.now.get(path), how) {
            (Some(_), Open::New) => return Err(DiskError::Exists(path.to_owned())),
            (None, Open::Existing) => return Err(DiskError::NotFound(path.to_owned())),
            (Some(content), _) => Arc::clone(content),
            (None, _) => Arc::clone(names.now.entry(path.to_owned()).or_default()),
        };
        Ok(Arc::new(MapFile { disk: self.clone(), path: path.to_owned(), content }))
    }

    async fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let prefix = format!("{dir}/");
        let mut names: Vec<_> = self
            .names()
            .now
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix))
            .map(|rest| rest.split_inclusive('/').next().unwrap_or_default().to_owned())
            .collect();
        names.dedup();
        Ok(names)
    }

    async fn create_dir(&self, _dir: &str) -> Result<(), DiskError> {
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.change(from)?;
        let mut names = self.names();
        let Some(content) = names.now.remove(from) else {
            return Err(DiskError::NotFound(from.to_owned()));
        };
        names.now.insert(to.to_owned(), content);
        Ok(())
    }

    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        let found = self.names().now.remove(path);
        found.map(|_| ()).ok_or_else(|| DiskError::NotFound(path.to_owned()))
    }

    async fn remove_dir(&self, dir: &str) -> Result<(), DiskError> {
        let prefix = format!("{dir}/");
        self.names().now.retain(|path, _| !path.starts_with(&prefix));
        Ok(())
    }

    async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        self.change(dir)?;
        let mut names = self.names();
        let names = &mut *names;
        // A folder that was removed is gone with all in it once its parent is synced.
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        names.synced.retain(|path, _| !path.starts_with(&prefix) || names.now.contains_key(path));
        for (path, content) in names.now.iter().filter(|(path, _)| parent(path) == dir) {
            names.synced.insert(path.clone(), Arc::clone(content));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct MapFile {
    disk: MapDisk,
    path: String,
    content: Content,
}

#[async_trait]
impl File for MapFile {
    async fn len(&self) -> Result<u64, DiskError> {
        Ok(self.content.lock().unwrap().now.len() as u64)
    }

    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, DiskError> {
        let body = self.content.lock().unwrap();
        let start = (offset as usize).min(body.now.len());
        let end = (start + length).min(body.now.len());
        Ok(Bytes::copy_from_slice(&body.now[start..end]))
    }

    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<(), DiskError> {
        self.disk.change(&self.path)?;
        let mut body = self.content.lock().unwrap();
        let end = offset as usize + bytes.len();
        if body.now.len() < end {
            body.now.resize(end, 0);
        }
        body.now[offset as usize..end].copy_from_slice(&bytes);
        Ok(())
    }

    async fn allocate(&self, _length: u64) -> Result<(), DiskError> {
        Ok(())
    }

    async fn set_len(&self, length: u64) -> Result<(), DiskError> {
        self.disk.change(&self.path)?;
        self.content.lock().unwrap().now.resize(length as usize, 0);
        Ok(())
    }

    async fn sync(&self) -> Result<(), DiskError> {
        self.disk.change(&self.path)?;
        let mut body = self.content.lock().unwrap();
        body.synced = body.now.clone();
        Ok(())
    }
}
