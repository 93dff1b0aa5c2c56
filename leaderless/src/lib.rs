#![doc = include_str!("../README.md")]

pub mod collect;
pub mod detector;
#[cfg(test)]
mod golden;
pub mod layout;
pub mod register;
