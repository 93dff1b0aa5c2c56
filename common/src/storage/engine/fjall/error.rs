//! What the library's errors mean for the one who uses the engine.

use std::io::ErrorKind;
use std::path::Path;

use super::EngineError;

/// The engine's error for a library's one. `full` says that an earlier one was a full disk: the
/// library refuses everything after that.
pub(super) fn of(path: &Path, error: fjall::Error, full: bool) -> EngineError {
    let place = path.display();
    match error {
        fjall::Error::Io(e) | fjall::Error::Storage(fjall::LsmError::Io(e)) => io(path, &e),
        fjall::Error::Locked => EngineError::Io(format!(
            "{place}: in use by another process, or by an engine of this one that is still open"
        )),
        fjall::Error::Poisoned if full => EngineError::Full(format!(
            "{place}: an earlier write found the disk full; free space and restart the node, the \
             log brings back what the engine lacks"
        )),
        fjall::Error::Poisoned => EngineError::Io(format!(
            "{place}: an earlier write failed, nothing more is taken; look after the disk and \
             restart the node, the log brings back what the engine lacks"
        )),
        fjall::Error::KeyspaceDeleted => EngineError::Io(format!("{place}: {error}")),
        other => damaged(path, &other.to_string()),
    }
}

/// The engine's error for one of the operating system.
pub(super) fn io(path: &Path, error: &std::io::Error) -> EngineError {
    let place = path.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            EngineError::Full(format!("{place}: {error}"))
        }
        // The library reads only what it wrote, so what is too short or not there was lost.
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::NotFound => {
            damaged(path, &error.to_string())
        }
        _ => EngineError::Io(format!("{place}: {error}")),
    }
}

/// Damage, and what to do.
pub(super) fn damaged(path: &Path, what: &str) -> EngineError {
    EngineError::Corrupt(format!(
        "{}: {what}; do not use it: remove the engine's folder, so that the node fetches its state \
         from a peer",
        path.display()
    ))
}
