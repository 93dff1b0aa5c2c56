#![doc = include_str!("../README.md")]

pub mod clock;
pub mod codec;
pub mod consistency;
pub mod env;
#[cfg(test)]
mod golden;
pub mod ids;
pub mod mark;
pub mod mutant;
pub mod outcome;
pub mod receipt;
pub mod seal;
pub mod storage;
#[cfg(feature = "tls")]
pub mod tls;
pub mod token;
pub mod transport;
