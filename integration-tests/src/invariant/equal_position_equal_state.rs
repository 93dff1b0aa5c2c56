//! States at one position of the log are equal, on all nodes and at all times: state machine safety,
//! Ongaro and Ousterhout 2014, figure 3; Schneider 1990.

use std::collections::BTreeMap;

use common::ids::{LogPos, NodeId};

use super::{Invariant, Look, words};

/// The hash of the state at each position, and who showed it first.
#[derive(Debug, Default)]
pub(super) struct EqualPositionEqualState(BTreeMap<LogPos, (u64, NodeId)>);

impl Invariant for EqualPositionEqualState {
    fn name(&self) -> &'static str {
        "equal_position_equal_state"
    }

    fn look(&mut self, look: &Look) -> Option<String> {
        let Look { node, applied, digest, .. } = *look;
        let (known, first) = *self.0.entry(applied).or_insert((digest, node));
        (known != digest).then(|| {
            format!("nodes {first} and {node} have different states at {}", words(applied))
        })
    }
}
