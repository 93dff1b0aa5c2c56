//! What came of a check, as JSON with keys that stay.

use std::collections::BTreeMap;

use leader::Checked;
use serde::{Deserialize, Serialize};

/// The states of all members at one position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The term of the position.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// Per member its state in hexadecimal; none if it did not answer in time.
    pub members: BTreeMap<u64, Option<String>>,
    /// How many records that state has that the majority has.
    pub records: Option<u64>,
    /// Members that differ from the majority. They serve no reads until they are repaired.
    pub differing: Vec<u64>,
    /// Members that did not answer in time.
    pub silent: Vec<u64>,
    /// Whether more than half of the voters have one state.
    pub majority: bool,
}

impl From<Checked> for CheckReport {
    fn from(checked: Checked) -> Self {
        let shown = |state: &Option<leader::StateHash>| state.map(|s| format!("{:016x}", s.hash));
        let ids = |ids: Vec<common::ids::NodeId>| ids.into_iter().map(|id| id.0).collect();
        Self {
            term: checked.at.term,
            index: checked.at.index,
            members: checked.members.iter().map(|(id, state)| (id.0, shown(state))).collect(),
            records: checked.majority.map(|state| state.items),
            differing: ids(checked.differing()),
            silent: ids(checked.silent()),
            majority: checked.majority.is_some(),
        }
    }
}
