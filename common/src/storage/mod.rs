//! Storage: the log is the truth, the engine is a cache of it.

pub mod disk;
pub mod engine;
pub mod wal;
