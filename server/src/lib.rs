//! The server of Tercet.

pub mod backend;
pub mod bench;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod exit;
pub mod http;
pub mod listener;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod progress;
pub mod redis;
mod run;
pub mod status;
pub mod stop;

pub use run::run;
