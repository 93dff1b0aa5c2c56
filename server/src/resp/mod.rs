//! The Redis serialization protocol, versions 2 and 3, over bytes alone.
//!
//! [`Requests`] takes bytes as they arrive and gives whole requests; [`Value`] is a reply and knows
//! how it is written. Nothing here waits, and nothing trusts a length before the bytes are there:
//! a request over its limit is skipped without being kept, so that a client can always be told.
//!
//! What a request looks like, and what is said about one that is malformed, follows Redis 7.0
//! byte for byte, oddities included (a line ends at `\r` and one more byte, whatever that is).

mod inline;
mod number;
mod reader;
mod request;
#[cfg(test)]
mod tests;
mod value;

pub use number::{Decimal, parse_i64};
pub use reader::{ReadError, read};
pub use request::{ProtocolError, Request, Requests};
pub use value::{Value, Version, double};
