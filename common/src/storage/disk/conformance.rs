//! What every [`Disk`](super::Disk) must do, as tests for your own.
