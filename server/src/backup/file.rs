//! Making and checking the file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use leader::backup::{Summary, Verifier};

use super::{Backup, BackupError, PATIENCE, Verify, shown};
use crate::client::http;

/// How many bytes are read at once.
const PIECE: usize = 1 << 20;

/// A file that is removed again unless it gets its name.
struct Unfinished {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl Unfinished {
    /// A new file beside the one to be.
    fn new(target: &Path) -> io::Result<Self> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.unfinished", std::process::id()));
        let path = target.with_file_name(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        // It holds what the data holds: nobody else is to read it.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        Ok(Self { path, file, kept: false })
    }

    /// Gives it its name, durably, unless the name is taken.
    fn keep(mut self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        // Unlike a rename, a second name never replaces a file that came in between.
        match fs::hard_link(&self.path, target) {
            Ok(()) => fs::remove_file(&self.path)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // Not every file system has second names.
            Err(_) if !target.exists() => fs::rename(&self.path, target)?,
            Err(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        }
        self.kept = true;
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes a backup, and returns what to print.
pub async fn backup(arguments: &Backup) -> Result<String, BackupError> {
    let target = &arguments.file;
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(target.clone()),
        _ => BackupError::Io { path: target.clone(), source },
    };
    if target.exists() {
        return Err(BackupError::Exists(target.clone()));
    }
    let mut unfinished = Unfinished::new(target).map_err(io)?;
    let mut verifier = Verifier::new();
    let path = format!("/backup?level={}", arguments.level.name());
    let mut coming = http::download(&arguments.from, &path, PATIENCE).await?;
    while let Some(piece) = coming.next().await? {
        verifier.take(&piece)?;
        unfinished.file.write_all(&piece).map_err(io)?;
    }
    let summary = verifier.finish()?;
    unfinished.keep(target).map_err(io)?;
    Ok(shown(&summary))
}

/// Checks a backup, and returns what to print.
pub fn verify(arguments: &Verify) -> Result<String, BackupError> {
    checked(&arguments.file).map(|summary| shown(&summary))
}

/// Reads a file through.
pub(super) fn checked(path: &Path) -> Result<Summary, BackupError> {
    let io = |source| BackupError::Io { path: path.to_owned(), source };
    let damaged = |source| BackupError::Damaged { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut verifier = Verifier::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).map_err(io)? {
            0 => return verifier.finish().map_err(damaged),
            read => verifier.take(&piece[..read]).map_err(damaged)?,
        }
    }
}

/// A file in pieces, from its beginning.
pub(super) fn pieces(path: &Path) -> io::Result<impl Iterator<Item = io::Result<bytes::Bytes>>> {
    let mut file = File::open(path)?;
    Ok(std::iter::from_fn(move || {
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece) {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                Some(Ok(piece.into()))
            }
            Err(error) => Some(Err(error)),
        }
    }))
}
