//! The disk as one incarnation of a node sees it.

use std::fmt;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::super::{Disk, DiskError, File, Open, parent, parts};
use super::names::Entry;
use super::sectors::Body;
use super::{Hardware, ReadFault, State, WriteFault, input_output_error, off};
use crate::ids::Incarnation;

/// What reading and writing costs beside a sync, when the disk is slowed: below a millisecond,
/// the grain of simulated time, it is left out.
const ACCESS: Duration = Duration::from_micros(50);
const GRAIN: Duration = Duration::from_millis(1);

#[derive(Clone)]
pub(super) struct Mounted {
    pub(super) disk: Arc<Hardware>,
    pub(super) incarnation: Incarnation,
}

impl fmt::Debug for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mounted({:?}, {:?})", self.disk.node, self.incarnation)
    }
}

impl Mounted {
    /// The state, unless this incarnation is dead or the machine is stopped.
    fn alive(
        &self,
        path: &str,
        operation: &'static str,
    ) -> Result<MutexGuard<'_, State>, DiskError> {
        let state = self.disk.state();
        if state.mounted != Some(self.incarnation) || state.faults.stopped {
            return Err(off(path, operation));
        }
        Ok(state)
    }

    /// The state, to change it: one of the calls that a crash test counts.
    fn change(
        &self,
        path: &str,
        operation: &'static str,
        payload: &[u8],
    ) -> Result<MutexGuard<'_, State>, DiskError> {
        let mut state = self.disk.state();
        if state.mounted != Some(self.incarnation) {
            return Err(off(path, operation));
        }
        match &mut state.faults.changes_left {
            Some(0) => {
                state.faults.stopped = true;
                return Err(off(path, operation));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        state.counts.changes += 1;
        self.disk.note(&format!("disk {operation} {path}"), payload);
        Ok(state)
    }

    /// Lets the time of an access pass, when the disk is slow enough to be noticed.
    async fn access(&self) {
        let factor = self.disk.state().faults.slow;
        let time = ACCESS * factor;
        if time >= GRAIN {
            self.disk.world.sleep_until(self.disk.world.elapsed() + time).await;
        }
    }

    /// Lets the time of a sync pass, and the stall that may be.
    async fn sync_time(&self) {
        let config = &self.disk.config;
        // Inverse transform of a uniform draw in (0, 1].
        let uniform = (self.disk.rng.below(1 << 32) + 1) as f64 / (1_u64 << 32) as f64;
        let time = config.sync_minimum + config.sync_mean.mul_f64(-uniform.ln());
        let time = time * self.disk.state().faults.slow;
        if !time.is_zero() {
            self.disk.world.sleep_until(self.disk.world.elapsed() + time).await;
        }
        loop {
            let mut unstalled = std::pin::pin!(self.disk.unstalled.notified());
            unstalled.as_mut().enable();
            if !self.disk.state().faults.stalled {
                return;
            }
            unstalled.await;
        }
    }
}

#[async_trait]
impl Disk for Mounted {
    async fn open(&self, path: &str, how: Open) -> Result<Arc<dyn File>, DiskError> {
        if parts(path)?.is_empty() {
            return Err(DiskError::BadPath(path.to_owned()));
        }
        let found = self.alive(path, "open")?.names.get(path);
        let id = match (found, how) {
            (Some(Entry::Dir), _) => {
                let cause = "it is a folder".to_owned();
                return Err(DiskError::Io { path: path.to_owned(), operation: "open", cause });
            }
            (Some(Entry::File(_)), Open::New) => return Err(DiskError::Exists(path.to_owned())),
            (None, Open::Existing) => return Err(DiskError::NotFound(path.to_owned())),
            (Some(Entry::File(id)), _) => id,
            (None, _) => {
                let mut state = self.change(path, "make", &[])?;
                if !state.names.is_dir(parent(path)) {
                    return Err(DiskError::NotFound(parent(path).to_owned()));
                }
                state.next_file += 1;
                let id = state.next_file;
                state.files.insert(id, Body::new(self.disk.config.sector_bytes));
                state.names.link(path, Entry::File(id));
                id
            }
        };
        Ok(Arc::new(SimFile { mount: self.clone(), path: path.to_owned(), id }))
    }

    async fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        parts(dir)?;
        let mut names = self.alive(dir, "list")?.names.list(dir);
        names.sort_unstable();
        Ok(names)
    }

    async fn create_dir(&self, dir: &str) -> Result<(), DiskError> {
        let parts = parts(dir)?;
        for n in 1..=parts.len() {
            let path = parts[..n].join("/");
            match self.alive(&path, "create")?.names.get(&path) {
                Some(Entry::Dir) => continue,
                Some(Entry::File(_)) => return Err(DiskError::Exists(path)),
                None => {}
            }
            self.change(&path, "create", &[])?.names.link(&path, Entry::Dir);
        }
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        parts(from)?;
        if parts(to)?.is_empty() {
            return Err(DiskError::BadPath(to.to_owned()));
        }
        let mut state = self.change(from, "rename", to.as_bytes())?;
        match (state.names.get(from), state.names.get(to)) {
            (Some(entry @ Entry::File(_)), None | Some(Entry::File(_))) => {
                state.names.rename(from, to, entry);
                Ok(())
            }
            (None, _) => Err(DiskError::NotFound(from.to_owned())),
            _ => Err(DiskError::Io {
                path: from.to_owned(),
                operation: "rename",
                cause: "folders are not renamed".to_owned(),
            }),
        }
    }

    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        parts(path)?;
        let mut state = self.change(path, "remove", &[])?;
        let Some(Entry::File(_)) = state.names.get(path) else {
            return Err(DiskError::NotFound(path.to_owned()));
        };
        state.names.unlink(path);
        Ok(())
    }

    async fn remove_dir(&self, dir: &str) -> Result<(), DiskError> {
        if parts(dir)?.is_empty() {
            return Err(DiskError::BadPath(dir.to_owned()));
        }
        let mut state = self.change(dir, "remove", &[])?;
        if state.names.get(dir) != Some(Entry::Dir) {
            return Err(DiskError::NotFound(dir.to_owned()));
        }
        state.names.unlink(dir);
        Ok(())
    }

    async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        parts(dir)?;
        {
            let mut state = self.change(dir, "sync", &[])?;
            state.counts.dir_syncs += 1;
            if !state.names.is_dir(dir) {
                return Err(DiskError::NotFound(dir.to_owned()));
            }
        }
        self.sync_time().await;
        let mut state = self.alive(dir, "sync")?;
        if state.faults.dir_sync_failures > 0 {
            state.faults.dir_sync_failures -= 1;
            state.faults.sync_failed = Some(self.incarnation);
            state.names.fail(dir);
            self.disk.note("disk sync fails", dir.as_bytes());
            return Err(input_output_error(dir, "sync"));
        }
        state.names.sync(dir);
        Ok(())
    }
}

/// An open file. Its name may be gone or another's meanwhile.
#[derive(Debug)]
struct SimFile {
    mount: Mounted,
    path: String,
    id: u64,
}

impl SimFile {
    fn body<'a>(
        &self,
        state: &'a mut State,
        operation: &'static str,
    ) -> Result<&'a mut Body, DiskError> {
        state.files.get_mut(&self.id).ok_or_else(|| off(&self.path, operation))
    }

    fn full(&self) -> DiskError {
        DiskError::Full { path: self.path.clone() }
    }
}

#[async_trait]
impl File for SimFile {
    async fn len(&self) -> Result<u64, DiskError> {
        let mut state = self.mount.alive(&self.path, "stat")?;
        Ok(self.body(&mut state, "stat")?.now.length)
    }

    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, DiskError> {
        self.mount.access().await;
        let mut state = self.mount.alive(&self.path, "read")?;
        let sectors = self.body(&mut state, "read")?.sectors(offset, length as u64);
        let bad = state
            .faults
            .reads
            .iter()
            .find(|((path, sector), _)| *path == self.path && sectors.contains(sector));
        if let Some((place, fault)) = bad.map(|(place, fault)| (place.clone(), *fault)) {
            if fault == ReadFault::Once {
                state.faults.reads.remove(&place);
            }
            return Err(input_output_error(&self.path, "read"));
        }
        Ok(self.body(&mut state, "read")?.read(offset, length))
    }

    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<(), DiskError> {
        self.mount.access().await;
        let mut state = self.mount.change(&self.path, "write", &bytes)?;
        match state.faults.next_write.take() {
            Some(WriteFault::Fails) => return Err(input_output_error(&self.path, "write")),
            Some(WriteFault::Full(written)) => {
                let written = written.min(bytes.len());
                self.body(&mut state, "write")?.write(offset, &bytes[..written]);
                return Err(self.full());
            }
            None => {}
        }
        let growth = self.body(&mut state, "write")?.growth(offset, bytes.len() as u64);
        if !state.fits(growth) {
            return Err(self.full());
        }
        state.counts.written += bytes.len() as u64;
        self.body(&mut state, "write")?.write(offset, &bytes);
        Ok(())
    }

    async fn allocate(&self, length: u64) -> Result<(), DiskError> {
        let mut state = self.mount.change(&self.path, "allocate", &length.to_le_bytes())?;
        let growth = self.body(&mut state, "allocate")?.reservation(length);
        if !state.fits(growth) {
            return Err(self.full());
        }
        self.body(&mut state, "allocate")?.allocate(length);
        Ok(())
    }

    async fn set_len(&self, length: u64) -> Result<(), DiskError> {
        let mut state = self.mount.change(&self.path, "truncate", &length.to_le_bytes())?;
        self.body(&mut state, "truncate")?.set_len(length);
        Ok(())
    }

    async fn sync(&self) -> Result<(), DiskError> {
        let flush = {
            let mut state = self.mount.change(&self.path, "sync", &[])?;
            state.counts.syncs += 1;
            self.body(&mut state, "sync")?.begin()
        };
        self.mount.sync_time().await;
        let mut state = self.mount.alive(&self.path, "sync")?;
        if state.faults.sync_failures > 0 {
            state.faults.sync_failures -= 1;
            state.faults.sync_failed = Some(self.mount.incarnation);
            self.body(&mut state, "sync")?.fail(&flush);
            self.mount.disk.note("disk sync fails", self.path.as_bytes());
            return Err(input_output_error(&self.path, "sync"));
        }
        self.body(&mut state, "sync")?.finish(flush);
        Ok(())
    }
}
