//! Free ports that stay ours.
//!
//! A port that the system hands out for "any" comes from the range that it also hands out to
//! outgoing connections, so while a killed node is down somebody may get it. These ports come from
//! below that range, in blocks. The first port of a block is bound as long as the block is held,
//! which keeps other clusters on this machine away from it, and ends with the process.

use std::net::TcpListener;

use common::env::{Rng, SplitMix64};

/// Where blocks begin, and where they end: below the ephemeral ranges of Linux and macOS.
const FIRST: u16 = 10_240;
const LAST: u16 = 32_640;
/// Ports in a block, the one that guards it included.
pub const BLOCK: u16 = 64;

/// No block is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {BLOCK} ports in a row between {FIRST} and {LAST} are free on 127.0.0.1")]
pub struct NoPorts;

/// A block of ports on 127.0.0.1. Dropping it gives it back.
#[derive(Debug)]
pub struct Block {
    first: u16,
    _guard: TcpListener,
}

fn bind(port: u16) -> Option<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).ok()
}

impl Block {
    /// Takes a block of which at least the first `wanted` ports are free now.
    pub fn take(wanted: u16) -> Result<Self, NoPorts> {
        let blocks = (LAST - FIRST) / BLOCK;
        let start = SplitMix64::from_system().below(u64::from(blocks)) as u16;
        for step in 0..blocks {
            let first = FIRST + (start + step) % blocks * BLOCK;
            let Some(guard) = bind(first) else { continue };
            if (1..=wanted).all(|at| bind(first + at).is_some()) {
                return Ok(Self { first, _guard: guard });
            }
        }
        Err(NoPorts)
    }

    /// The port at a place, from 0.
    pub fn port(&self, at: u16) -> u16 {
        self.first + 1 + at % (BLOCK - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_never_share_a_port() {
        let blocks: Vec<Block> = (0..20).map(|_| Block::take(9).unwrap()).collect();
        let mut ports: Vec<u16> =
            blocks.iter().flat_map(|block| (0..9).map(|at| block.port(at))).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 180);
        let free = bind(blocks[0].port(0));
        assert!(free.is_some(), "a held block's ports can be bound by its nodes");
    }
}
