//! A folder of the operating system.
//!
//! System calls that can wait run in tokio's pool of blocking threads, each request of the trait in
//! one visit. One process holds a folder at a time: an advisory lock on the file `LOCK` in it.
//!
//! # Caveats
//!
//! - The lock is the system's advisory one: it binds programs that ask for it.
//! - A limit on file size (`ulimit -f`) ends a process by the signal `SIGXFSZ`, unless that is
//!   ignored; then it is a full disk here.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the real side of the seam"
)]

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Disk, DiskError, File, Open, parts};

const LOCK: &str = "LOCK";

/// A task of the holder's that was just dropped may be inside a system call still: so long is the
/// lock asked for again before the folder counts as in use.
const PATIENCE: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// A folder of the operating system, locked against other processes.
#[derive(Clone, Debug)]
pub struct OsDisk(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    /// Unlocked when it is closed, with the last file of this disk.
    _lock: fs::File,
}

impl OsDisk {
    /// Opens a folder, and makes it where it does not exist. [`DiskError::InUse`] when another
    /// process, or another `OsDisk` of this one, holds it.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, DiskError> {
        let root: PathBuf = root.into();
        let shown = root.display().to_string();
        for attempt in 1.. {
            let (folder, name) = (root.clone(), shown.clone());
            match blocking(&shown, "open", move || lock(folder, &name)).await {
                Err(DiskError::InUse { .. }) if attempt < PATIENCE => {
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done.map(|folder| Self(Arc::new(folder))),
            }
        }
        unreachable!("the loop ends by its return")
    }

    /// Where the folder is.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    fn place(&self, path: &str) -> Result<PathBuf, DiskError> {
        match parts(path)?.as_slice() {
            [LOCK] => Err(DiskError::BadPath(path.to_owned())),
            parts => Ok(self.0.root.join(parts.join("/"))),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        path: &str,
        operation: &'static str,
        job: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DiskError> {
        let place = self.place(path)?;
        let (folder, shown) = (self.0.clone(), path.to_owned());
        blocking(path, operation, move || {
            let done = job(&place).map_err(|e| failure(&shown, operation, &e));
            drop(folder);
            done
        })
        .await
    }
}

/// The folder that has a folder's name.
fn above(dir: &Path) -> &Path {
    dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn lock(root: PathBuf, shown: &str) -> Result<Folder, DiskError> {
    let io = |operation| move |e: io::Error| failure(shown, operation, &e);
    if !root.is_dir() {
        // Whatever is made here must have a durable name in what is above it.
        let made = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.is_dir();
        let above: Vec<_> = root.ancestors().take_while(made).map(above).collect();
        fs::create_dir_all(&root).map_err(io("create"))?;
        for dir in above {
            fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync"))?;
        }
    }
    let path = root.join(LOCK);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(io("open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let detail = format!("{}; stop it, or choose another folder", holder.trim());
            return Err(DiskError::InUse { path: shown.to_owned(), detail });
        }
        Err(TryLockError::Error(e)) => return Err(io("lock")(e)),
    }
    // Who holds it is a courtesy: on a full disk the lock alone must do.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id()));
    Ok(Folder { root, _lock: file })
}

/// Runs a job where it may wait.
async fn blocking<T: Send + 'static>(
    path: &str,
    operation: &'static str,
    job: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
) -> Result<T, DiskError> {
    tokio::task::spawn_blocking(job).await.unwrap_or_else(|e| {
        Err(DiskError::Io { path: path.to_owned(), operation, cause: e.to_string() })
    })
}

/// A quota and a limit on file sizes are full disks too. A failed sync never is one, whatever its
/// cause: what it leaves on the disk is unknown.
fn failure(path: &str, operation: &'static str, e: &io::Error) -> DiskError {
    let path = path.to_owned();
    match e.kind() {
        ErrorKind::NotFound => DiskError::NotFound(path),
        ErrorKind::AlreadyExists => DiskError::Exists(path),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
            if operation != "sync" =>
        {
            DiskError::Full { path }
        }
        _ => DiskError::Io { path, operation, cause: e.to_string() },
    }
}

#[async_trait]
impl Disk for OsDisk {
    async fn open(&self, path: &str, how: Open) -> Result<Arc<dyn File>, DiskError> {
        if path.is_empty() {
            return Err(DiskError::BadPath(path.to_owned()));
        }
        let file = self
            .run(path, "open", move |place| {
                let mut options = OpenOptions::new();
                options.read(true).write(true);
                match how {
                    Open::Existing => &mut options,
                    Open::New => options.create_new(true),
                    Open::Any => options.create(true).truncate(false),
                };
                options.open(place)
            })
            .await?;
        let folder = self.0.clone();
        Ok(Arc::new(OsFile(Arc::new(Inner { path: path.to_owned(), file, _folder: folder }))))
    }

    async fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let top = dir.is_empty();
        let listed = self.run(dir, "list", move |place| {
            let mut names = Vec::new();
            for entry in fs::read_dir(place)? {
                let entry = entry?;
                let mut name = entry.file_name().to_string_lossy().into_owned();
                if top && name == LOCK {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    name.push('/');
                }
                names.push(name);
            }
            names.sort_unstable();
            Ok(names)
        });
        match listed.await {
            Err(DiskError::NotFound(_)) => Ok(Vec::new()),
            listed => listed,
        }
    }

    async fn create_dir(&self, dir: &str) -> Result<(), DiskError> {
        self.run(dir, "create", |place| fs::create_dir_all(place)).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let target = self.place(to)?;
        self.run(from, "rename", move |place| fs::rename(place, target)).await
    }

    async fn remove(&self, path: &str) -> Result<(), DiskError> {
        self.run(path, "remove", |place| fs::remove_file(place)).await
    }

    async fn remove_dir(&self, dir: &str) -> Result<(), DiskError> {
        if dir.is_empty() {
            return Err(DiskError::BadPath(dir.to_owned()));
        }
        self.run(dir, "remove", |place| fs::remove_dir_all(place)).await
    }

    async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        self.run(dir, "sync", |place| fs::File::open(place)?.sync_all()).await
    }
}

#[derive(Debug)]
struct Inner {
    path: String,
    file: fs::File,
    _folder: Arc<Folder>,
}

#[derive(Debug)]
struct OsFile(Arc<Inner>);

impl OsFile {
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&Inner) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, DiskError> {
        let inner = self.0.clone();
        blocking(&self.0.path, operation, move || job(&inner)).await
    }
}

impl Inner {
    fn failure(&self, operation: &'static str, e: &io::Error) -> DiskError {
        failure(&self.path, operation, e)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_all_at(bytes, offset).map_err(|e| self.failure("write", &e))
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(|e| self.failure("sync", &e))
    }

    fn length(&self) -> Result<u64, DiskError> {
        self.file.metadata().map(|m| m.len()).map_err(|e| self.failure("stat", &e))
    }

    fn allocate(&self, length: u64) -> Result<(), DiskError> {
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&self.file, flags, 0, length) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.fill(length),
            Err(e) => Err(self.failure("allocate", &e.into())),
        }
    }

    /// Reserves space on a file system that cannot, by writing zeros behind the end.
    fn fill(&self, length: u64) -> Result<(), DiskError> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut at = self.length()?;
        while at < length {
            let step = (length - at).min(ZEROS.len() as u64);
            self.write(at, &ZEROS[..step as usize])?;
            at += step;
        }
        Ok(())
    }

    fn read(&self, offset: u64, length: usize) -> Result<Bytes, DiskError> {
        let there = self.length()?.saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(there).unwrap_or(usize::MAX).min(length)];
        let mut done = 0;
        while done < bytes.len() {
            match self.file.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failure("read", &e)),
            }
        }
        bytes.truncate(done);
        Ok(bytes.into())
    }
}

#[async_trait]
impl File for OsFile {
    async fn len(&self) -> Result<u64, DiskError> {
        self.run("stat", Inner::length).await
    }

    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, DiskError> {
        self.run("read", move |file| file.read(offset, length)).await
    }

    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<(), DiskError> {
        self.run("write", move |file| file.write(offset, &bytes)).await
    }

    async fn allocate(&self, length: u64) -> Result<(), DiskError> {
        self.run("allocate", move |file| file.allocate(length)).await
    }

    async fn set_len(&self, length: u64) -> Result<(), DiskError> {
        self.run("truncate", move |file| {
            file.file.set_len(length).map_err(|e| file.failure("truncate", &e))
        })
        .await
    }

    async fn sync(&self) -> Result<(), DiskError> {
        self.run("sync", Inner::sync).await
    }

    async fn write_and_sync(&self, offset: u64, bytes: Bytes) -> Result<(), DiskError> {
        self.run("write", move |file| {
            file.write(offset, &bytes)?;
            file.sync()
        })
        .await
    }
}
