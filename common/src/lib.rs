#![doc = include_str!("../README.md")]

pub mod clock;
pub mod codec;
pub mod env;
pub mod ids;
pub mod mark;
pub mod mutant;
pub mod storage;
pub mod transport;
