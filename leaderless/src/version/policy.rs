//! What a read makes of concurrent cells. A type of the keyspace, so that plain writes and
//! compare-and-set on one key do not compile.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use common::clock::Hlc;
use serde::{Deserialize, Serialize};

use super::{Dot, Winner};

/// The policy of a keyspace, as its configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Concurrent writes are all kept.
    Siblings,
    /// The largest stamp wins.
    Lww,
    /// Concurrent writes are all kept, and merged when read.
    Merge,
    /// Compare-and-set, linearizable per key.
    Registers,
}

impl Kind {
    /// Which of concurrent cells stay.
    pub const fn winner(self) -> Winner {
        match self {
            Self::Lww => Winner::Last,
            Self::Siblings | Self::Merge | Self::Registers => Winner::Every,
        }
    }
}

/// A conflict policy, as a type.
pub trait Policy: Send + Sync + fmt::Debug + 'static {
    /// Its name in the configuration.
    const KIND: Kind;
}

/// One of concurrent values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The write that made it.
    pub dot: Dot,
    /// The value.
    pub value: Bytes,
    /// The coordinator's stamp.
    pub at: Hlc,
}

/// A policy with plain writes.
pub trait Plain: Policy {
    /// What a read returns.
    type Out: Send + fmt::Debug;
    /// Makes it of the visible cells, sorted by dot.
    fn read(visible: Vec<Sibling>) -> Self::Out;
}

/// Concurrent writes are all kept; a write replaces what its context covers.
#[derive(Clone, Copy, Debug)]
pub struct Siblings;

/// The write with the largest stamp wins, deletes included. Concurrent ones are dropped: use it for
/// values where any of the newest will do.
#[derive(Clone, Copy, Debug)]
pub struct Lww;

/// A function that makes one value of concurrent ones. It must not depend on their order or on how
/// often one is given.
pub trait Resolve: Send + Sync + fmt::Debug + 'static {
    /// Merges values. Called with at least one.
    fn merge(values: &[Bytes]) -> Bytes;
}

/// As [`Siblings`]; a read returns one value, made by `R`. It is written back only by a write that
/// shows the read's context.
#[derive(Clone, Copy, Debug)]
pub struct Merge<R>(PhantomData<R>);

/// Compare-and-set, linearizable per key. No plain writes.
#[derive(Clone, Copy, Debug)]
pub struct Registers;

impl Policy for Siblings {
    const KIND: Kind = Kind::Siblings;
}

impl Policy for Lww {
    const KIND: Kind = Kind::Lww;
}

impl<R: Resolve> Policy for Merge<R> {
    const KIND: Kind = Kind::Merge;
}

impl Policy for Registers {
    const KIND: Kind = Kind::Registers;
}

impl Plain for Siblings {
    type Out = Vec<Sibling>;
    fn read(visible: Vec<Sibling>) -> Vec<Sibling> {
        visible
    }
}

impl Plain for Lww {
    type Out = Option<Bytes>;
    fn read(visible: Vec<Sibling>) -> Option<Bytes> {
        visible.into_iter().max_by_key(|s| (s.at, s.dot)).map(|s| s.value)
    }
}

impl<R: Resolve> Plain for Merge<R> {
    type Out = Option<Bytes>;
    fn read(visible: Vec<Sibling>) -> Option<Bytes> {
        let values: Vec<Bytes> = visible.into_iter().map(|s| s.value).collect();
        if values.is_empty() { None } else { Some(R::merge(&values)) }
    }
}
