//! The Raft log on disk: entries, votes and marks as one ordered stream of records.

mod record;

pub(crate) use record::EntryRecord;
