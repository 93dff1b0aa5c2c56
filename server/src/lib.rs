//! The server of Tercet.
