//! Who a role is, at the moment it is needed.

use common::env::{Rng, SplitMix64};

use super::World;
use crate::plan::Role;
use crate::strategy::{Place, Strategy};
use crate::workload::Key;

impl<S: Strategy> World<S> {
    /// The one node that a role names. `salt` decides where nobody has the authority.
    pub(crate) fn resolve_one(&self, role: &Role, salt: u64) -> Place {
        let count = self.plan.config.nodes.max(1);
        let wrap = |n: u64| Place((n % u64::from(count)) as u8);
        let authority = |key: Key| {
            let nodes = self.open_nodes();
            self.strategy.authority(&nodes, key).unwrap_or_else(|| wrap(salt))
        };
        match role {
            Role::Node(n) => wrap(u64::from(*n)),
            Role::Authority(key) => authority(*key),
            Role::Other(key, steps) => wrap(u64::from(authority(*key).0) + u64::from(*steps)),
            Role::Link(ends) => self.resolve_one(&ends[0], salt),
            Role::Minority(of) => self.resolve_one(of, salt),
            Role::All => Place(0),
        }
    }

    /// All nodes that a role names.
    pub(crate) fn resolve_many(&self, role: &Role, salt: u64) -> Vec<Place> {
        match role {
            Role::All => self.places().collect(),
            Role::Minority(with) => {
                let first = self.resolve_one(with, salt);
                let size = usize::from((self.plan.config.nodes.max(1) - 1) / 2).max(1);
                let mut chosen = vec![first];
                for place in shuffled(self.places().filter(|p| *p != first), salt) {
                    if chosen.len() < size {
                        chosen.push(place);
                    }
                }
                chosen.sort_unstable();
                chosen
            }
            Role::Link(ends) => ends.iter().map(|end| self.resolve_one(end, salt)).collect(),
            Role::Node(_) | Role::Authority(_) | Role::Other(..) => {
                vec![self.resolve_one(role, salt)]
            }
        }
    }
}

/// The places in an order that only the salt decides.
pub(super) fn shuffled(places: impl Iterator<Item = Place>, salt: u64) -> Vec<Place> {
    let rng = SplitMix64::new(salt);
    let mut keyed: Vec<(u64, Place)> = places.map(|p| (rng.next_u64(), p)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, place)| place).collect()
}
