#![doc = include_str!("../README.md")]

#[cfg(test)]
mod golden;
pub mod layout;
pub mod version;
