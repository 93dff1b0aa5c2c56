//! Snapshots on their way between members.

/// A snapshot that can be sent or installed. Placeholder until its file format exists.
#[derive(Debug, Default)]
pub(crate) struct SnapshotHandle {}
