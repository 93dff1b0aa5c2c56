//! Which generation of an engine is current: a file `CURRENT`, replaced by a rename.

use bytes::Bytes;

use super::{EngineError, Generation};
use crate::codec::{self, Format};

/// The name of the file.
pub(super) const CURRENT: &str = "CURRENT";
/// Where its next content is written before it takes the name.
pub(super) const CURRENT_NEXT: &str = "CURRENT.next";

const FORMAT: Format = Format { magic: *b"TCUR", version: 1 };

/// The content of the file.
pub(super) fn encode(generation: Generation) -> Bytes {
    codec::encode(FORMAT, &generation.0)
}

/// The generation that the file names.
pub(super) fn decode(path: &str, bytes: &[u8]) -> Result<Generation, EngineError> {
    codec::decode(FORMAT, bytes, 16).map(Generation).map_err(|cause| {
        EngineError::Corrupt(format!(
            "{path}: {cause}; it names the engine in use and nothing else can: remove the engine's \
             folder, so that the node fetches its state from a peer"
        ))
    })
}

/// The folder of a generation, below the engines' folder. Zeros keep a listing in order.
pub(super) fn folder(generation: Generation) -> String {
    format!("{:010}", generation.0)
}

/// The generation that a folder's name, as listed, stands for.
pub(super) fn of_folder(name: &str) -> Option<Generation> {
    let name = name.strip_suffix('/').unwrap_or(name);
    name.parse().ok().map(Generation).filter(|g| folder(*g) == name)
}

/// The current generation cannot be made anew: that would destroy the state in use.
pub(super) fn check_free(
    current: Option<Generation>,
    wanted: Generation,
) -> Result<(), EngineError> {
    if current == Some(wanted) { Err(in_use(wanted)) } else { Ok(()) }
}

/// A generation that is open cannot be made anew.
pub(super) fn in_use(generation: Generation) -> EngineError {
    EngineError::Io(format!(
        "generation {} is in use; nothing was changed: create one with another number",
        generation.0
    ))
}

/// Only a generation that was created can become current.
pub(super) fn unknown(generation: Generation) -> EngineError {
    EngineError::Io(format!("generation {} was not created; nothing was changed", generation.0))
}
