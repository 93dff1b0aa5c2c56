//! Which nodes own a key, and how that changes without losing a write.
//!
//! A key's *route* is hashed to a token, the token's top bits name one of a fixed number of
//! *partitions*, and a [`Layout`] says which nodes own each partition. A layout has an [`Epoch`]
//! that every message carries. Owners change in three agreed phases with two owner sets, so that a
//! coordinator with an old view can never read a quorum that misses a new write:
//!
//! ```text
//!            writes go to            reads come from     refused from older views
//! Stable     current                 current             everything
//! Moving     previous and current    previous            writes
//! Synced     previous and current    current             reads
//! Stable     current                 current             everything
//! ```
//!
//! Everything here is pure. How a layout is agreed on is the business of its authority.

mod change;
mod flow;
mod judge;
mod key;
mod nodes;
mod owners;
mod partition;
mod plan;
mod preference;
mod quotas;
mod record;

pub use change::{Change, ChangeError, NewNode, Planned, may_finish};
pub use judge::{Intent, LiveSets, Phase, Verdict};
pub use key::{EngineKeyError, Key, Token, decode_engine_key, engine_key};
pub use nodes::{Fence, NodeInfo, NodeState, Rack};
pub use owners::Owners;
pub use partition::{Bits, BitsError, Partition, PartitionSet};
pub use plan::{MAX_FACTOR, PlanError, Warning, plan};
pub use preference::Preference;
pub use record::{Epoch, Layout, LayoutError, MAX_LAYOUT, Marks};

#[cfg(test)]
mod tests;
