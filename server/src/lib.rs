#![doc = include_str!("../README.md")]
#![allow(
    clippy::cast_possible_wrap,
    reason = "the protocol's numbers are signed; lengths and counts are far below 2^63"
)]

pub mod admin;
pub mod backend;
pub mod backup;
pub mod bench;
mod blocking;
pub mod certificates;
pub mod cli;
pub mod client;
mod clients;
pub mod cluster;
mod command;
pub mod config;
mod connection;
pub mod demo;
pub mod exit;
mod handshake;
pub mod http;
mod line;
pub mod listener;
pub mod logging;
pub mod metrics;
pub mod node;
mod patience;
pub mod progress;
pub mod redis;
pub mod resp;
mod run;
pub mod service;
pub mod status;
pub mod stop;
pub mod users;
pub mod watching;

pub use run::run;
