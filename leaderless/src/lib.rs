#![doc = include_str!("../README.md")]

pub mod collect;
#[cfg(test)]
mod golden;
pub mod layout;
