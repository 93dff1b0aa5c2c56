//! What a key stores, and how two states of it become one.

use bytes::Bytes;
use common::clock::Hlc;
use serde::{Deserialize, Serialize};

use super::{Context, Dot, PartitionClock};

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// A value.
    Value {
        /// The value.
        bytes: Bytes,
        /// The coordinator's stamp.
        at: Hlc,
        /// When it ends to be visible, in milliseconds since the Unix epoch. Set once, carried
        /// unchanged.
        expires: Option<u64>,
    },
    /// A delete. It stays until every owner knows it.
    Tombstone {
        /// The coordinator's stamp.
        at: Hlc,
    },
}

impl Cell {
    /// The coordinator's stamp.
    pub const fn at(&self) -> Hlc {
        match self {
            Self::Value { at, .. } | Self::Tombstone { at } => *at,
        }
    }

    /// Whether it is a delete.
    pub const fn is_tombstone(&self) -> bool {
        matches!(self, Self::Tombstone { .. })
    }

    /// Whether a read at this wall time shows it.
    pub fn is_visible(&self, wall_millis: u64) -> bool {
        match self {
            Self::Value { expires, .. } => expires.is_none_or(|at| at > wall_millis),
            Self::Tombstone { .. } => false,
        }
    }
}

/// Which of concurrent cells stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Winner {
    /// All.
    Every,
    /// The one with the largest (stamp, dot).
    Last,
}

/// What a replica says of a key on the wire: its cells, and what they supersede.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The cells, sorted by dot. Always all of them: one without its siblings would say that they
    /// are superseded.
    pub cells: Vec<(Dot, Cell)>,
    /// Per actor: all its dots of this key up to here are cells above, or superseded.
    pub context: Context,
    /// Whether the sender's bases, sent once per message, belong to the context. A young container
    /// claims only what it lists.
    pub established: bool,
}

impl Claim {
    /// The whole claim: with the sender's bases, where they belong to it.
    #[must_use]
    pub fn filled(mut self, bases: &Context) -> Self {
        if self.established {
            self.context.join(bases);
        }
        self
    }
}

/// What merging a claim did to a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// Dots of the claim's cells: whether they stayed, the replica has dealt with them now.
    pub dealt: Vec<Dot>,
    /// Dots of own cells that the claim supersedes.
    pub removed: Vec<Dot>,
    /// Cells of the claim that the own clock has, though no own claim says that they are
    /// superseded: either they were, and the key is gone since, or this replica lost them.
    pub doubted: Vec<Dot>,
}

/// What a key stores: cells with the dots that made them, and a context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The cells, sorted by dot.
    pub cells: Vec<(Dot, Cell)>,
    /// What they supersede, beyond what the partition clock's bases say.
    pub context: Context,
    /// Made where the replica had nothing of the key, until its dots are stable: it claims only what
    /// its context lists, because what it does not have may have been lost here.
    pub young: bool,
}

impl Container {
    /// A container where there was none.
    pub const fn young() -> Self {
        Self { cells: Vec::new(), context: Context::new(), young: true }
    }

    fn find(&self, dot: &Dot) -> Result<usize, usize> {
        self.cells.binary_search_by(|(own, _)| own.cmp(dot))
    }

    /// Whether the dot made a cell that is here.
    pub fn has(&self, dot: &Dot) -> bool {
        self.find(dot).is_ok()
    }

    /// Adds a cell, as the coordinator of a write does after [`Container::discard`].
    pub fn add(&mut self, dot: Dot, cell: Cell) {
        if let Err(at) = self.find(&dot) {
            self.cells.insert(at, (dot, cell));
        }
    }

    /// Drops the cells that a client's context covers, and remembers it. The dots that went.
    pub fn discard(&mut self, context: &Context) -> Vec<Dot> {
        let gone = self.cells.iter().map(|(dot, _)| *dot).filter(|dot| context.covers(dot));
        let gone: Vec<Dot> = gone.collect();
        self.cells.retain(|(dot, _)| !context.covers(dot));
        self.context.join(context);
        gone
    }

    /// Drops all but the winner. The dots that went.
    pub fn keep(&mut self, winner: Winner) -> Vec<Dot> {
        if winner == Winner::Every || self.cells.len() < 2 {
            return Vec::new();
        }
        let best = self.cells.iter().map(|(dot, cell)| (cell.at(), *dot)).max();
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.cells)
            .into_iter()
            .partition(|(dot, cell)| best == Some((cell.at(), *dot)));
        self.cells = kept;
        gone.into_iter().map(|(dot, _)| dot).collect()
    }

    /// Drops what the clock says already.
    pub fn strip(&mut self, clock: &PartitionClock) {
        if !self.young {
            let rest = self.context.iter().filter(|(actor, n)| *n > clock.base(actor));
            self.context = rest.map(|(actor, n)| (*actor, n)).collect();
        }
    }

    /// What this replica says of the key to others.
    pub fn claim(&self) -> Claim {
        let established = !self.young;
        Claim { cells: self.cells.clone(), context: self.context.clone(), established }
    }

    /// Merges a filled claim. Rule A1: a cell whose dot the clock has and that is no cell here is
    /// dropped, the rest of the claim counts.
    pub fn absorb(&mut self, claim: &Claim, clock: &PartitionClock, winner: Winner) -> Absorbed {
        self.take_over(claim, clock, winner, |dot| clock.covers(dot))
    }

    /// Merges what other owners have of a key that this replica lost: past rule A1.
    pub fn restore(&mut self, claim: &Claim, clock: &PartitionClock, winner: Winner) -> Absorbed {
        self.take_over(claim, clock, winner, |_| false)
    }

    fn take_over(
        &mut self,
        claim: &Claim,
        clock: &PartitionClock,
        winner: Winner,
        stale: impl Fn(&Dot) -> bool,
    ) -> Absorbed {
        let mut out = Absorbed::default();
        let superseded = |dot: &Dot| {
            claim.context.covers(dot) && claim.cells.binary_search_by(|(d, _)| d.cmp(dot)).is_err()
        };
        out.removed =
            self.cells.iter().map(|(dot, _)| *dot).filter(|dot| superseded(dot)).collect();
        self.cells.retain(|(dot, _)| !superseded(dot));
        let mut context = claim.context.clone();
        for (dot, cell) in &claim.cells {
            if self.has(dot) {
                continue;
            }
            if stale(dot) {
                if self.young && !self.context.covers(dot) {
                    out.doubted.push(*dot);
                    // Not here though alive there: this replica may pass on no claim about it.
                    if context.covers(dot) {
                        lower(&mut context, dot);
                    }
                }
                continue;
            }
            out.dealt.push(*dot);
            let known =
                self.context.covers(dot) || (!self.young && dot.n <= clock.base(&dot.actor));
            if !known {
                self.add(*dot, cell.clone());
            }
        }
        self.context.join(&context);
        let lost = self.keep(winner);
        out.removed.extend(lost.into_iter().filter(|dot| !out.dealt.contains(dot)));
        out
    }

    /// A fingerprint of the live dots: what replicas compare. Contexts and deletes are left out,
    /// because they differ in time and mean no difference.
    pub fn digest(&self) -> u64 {
        digest(&self.cells)
    }

    /// The largest stamp of its cells.
    pub fn stamp(&self) -> Hlc {
        self.cells.iter().map(|(_, cell)| cell.at()).max().unwrap_or_default()
    }
}

/// Lowers a context to just before a dot.
fn lower(context: &mut Context, dot: &Dot) {
    *context = context
        .iter()
        .map(|(actor, n)| (*actor, if *actor == dot.actor { n.min(dot.n - 1) } else { n }))
        .collect();
}

/// The digest of cells: of their live dots, in order.
pub(crate) fn digest(cells: &[(Dot, Cell)]) -> u64 {
    let mut bytes = Vec::with_capacity(cells.len() * 16);
    for (dot, _) in cells.iter().filter(|(_, cell)| !cell.is_tombstone()) {
        bytes.extend_from_slice(&dot.actor.0.to_le_bytes());
        bytes.extend_from_slice(&dot.n.to_le_bytes());
    }
    xxhash_rust::xxh3::xxh3_64(&bytes)
}
