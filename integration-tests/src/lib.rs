//! The judge of the three strategies.

pub mod check;
pub mod history;
pub mod mark;
pub mod plan;
pub mod time;
pub mod workload;
