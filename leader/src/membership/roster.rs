//! What the replicated state says of members besides their addresses: attributes, the ids that were
//! given, a replacement under way.
//!
//! It is part of the state, set by ordinary entries, so that all members know the same of all, over
//! every change of leader, restart and snapshot. What no entry has set is as each node's
//! configuration says.
//!
//! ```text
//! keyspace "leader.members":  "roster" -> frame "TLro" version 1: attributes by member, highest id, replacement
//! ```

use std::collections::{BTreeMap, BTreeSet};

use common::codec::{self, Format};
use common::ids::{NodeId, Region};
use common::storage::engine::{EngineError, Keyspace, Read};
use serde::{Deserialize, Serialize};

use crate::apply::Applied;
use crate::node::Member;
use crate::state_machine::Draft;

/// Where it is stored.
pub(crate) const MEMBERS: Keyspace = Keyspace("leader.members");
const ROW: &[u8] = b"roster";
const FORMAT: Format = Format { magic: *b"TLro", version: 1 };
const LIMIT: usize = 1 << 20;

/// What a cluster knows of a member. What is absent is as the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attributes {
    /// How much it is wanted as leader: [`Config::election_priority`](crate::Config::election_priority).
    pub priority: Option<u8>,
    /// Whether clients shall not find it: it is in no list for them, and leads only when nobody else
    /// can. It votes and acknowledges as others do.
    pub hidden: bool,
    /// The region it stands in.
    pub region: Option<Region>,
    /// The rack it stands in, within its region.
    pub rack: Option<String>,
}

/// One attribute, to be set. The order of the variants is the format: new ones go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Attribute {
    /// [`Attributes::priority`].
    Priority(Option<u8>),
    /// [`Attributes::hidden`].
    Hidden(bool),
    /// [`Attributes::region`].
    Region(Option<Region>),
    /// [`Attributes::rack`].
    Rack(Option<String>),
}

/// A member that takes the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// The voter that goes.
    pub old: NodeId,
    /// The member that comes.
    pub new: Member,
}

/// What the state says of members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Roster {
    pub(crate) attributes: BTreeMap<NodeId, Attributes>,
    /// The highest id that was ever a member's.
    pub(crate) highest: u64,
    pub(crate) replacing: Option<Replacement>,
}

impl Roster {
    /// What a state says. One from before there was a roster knows the members that it has.
    pub(crate) fn load(state: &dyn Read, applied: &Applied) -> Result<Self, EngineError> {
        let damaged = |error| EngineError::Corrupt(format!("the roster of members: {error}"));
        let mut roster: Self = match state.get(MEMBERS, ROW)? {
            Some(bytes) => codec::decode(FORMAT, &bytes, LIMIT).map_err(damaged)?,
            None => Self::default(),
        };
        if let Some((_, members)) = &applied.members {
            roster.count(&crate::raft::member_ids(members)?);
        }
        Ok(roster)
    }

    fn count(&mut self, members: &BTreeSet<NodeId>) {
        self.highest = members.iter().map(|id| id.0).fold(self.highest, u64::max);
    }

    fn save(&self, draft: &mut Draft<'_>) {
        draft.put(MEMBERS, ROW, codec::encode(FORMAT, self));
    }

    /// These are the members from here on.
    pub(crate) fn members(&mut self, draft: &mut Draft<'_>, members: &BTreeSet<NodeId>) {
        self.count(members);
        self.attributes.retain(|id, _| members.contains(id));
        self.save(draft);
    }

    /// Sets attributes of a member. Whoever is no member has none.
    pub(crate) fn describe(
        &mut self,
        draft: &mut Draft<'_>,
        members: &BTreeSet<NodeId>,
        id: NodeId,
        list: &[Attribute],
    ) {
        if !members.contains(&id) {
            return;
        }
        let of = self.attributes.entry(id).or_default();
        for attribute in list {
            match attribute {
                Attribute::Priority(priority) => of.priority = *priority,
                Attribute::Hidden(hidden) => of.hidden = *hidden,
                Attribute::Region(region) => of.region.clone_from(region),
                Attribute::Rack(rack) => of.rack.clone_from(rack),
            }
        }
        self.save(draft);
    }

    /// A replacement begins, or is over.
    pub(crate) fn replace(&mut self, draft: &mut Draft<'_>, replacing: Option<&Replacement>) {
        self.replacing = replacing.cloned();
        self.save(draft);
    }

    /// The attributes of a member.
    pub(crate) fn of(&self, id: NodeId) -> Attributes {
        self.attributes.get(&id).cloned().unwrap_or_default()
    }

    /// The id for the next member; none if there is no higher one.
    pub(crate) fn next_id(&self) -> Option<NodeId> {
        self.highest.checked_add(1).map(NodeId)
    }
}

#[cfg(test)]
mod tests {
    use common::storage::engine::{Engine, MemoryEngine};

    use super::*;

    fn ids(all: &[u64]) -> BTreeSet<NodeId> {
        all.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn what_is_set_is_stored_and_goes_with_its_member_but_its_id_is_never_given_again() {
        let (engine, mut roster) = (MemoryEngine::volatile(), Roster::default());
        let members = ids(&[1, 2, 5]);
        let mut draft = Draft::new(&engine);
        roster.members(&mut draft, &members);
        let region = Some(Region("eu".into()));
        let list = [Attribute::Priority(Some(7)), Attribute::Region(region.clone())];
        roster.describe(&mut draft, &members, NodeId(5), &list);
        roster.describe(&mut draft, &members, NodeId(5), &[Attribute::Hidden(true)]);
        roster.describe(&mut draft, &members, NodeId(9), &[Attribute::Hidden(true)]);
        engine.write(draft.into_batch()).unwrap();
        assert_eq!(Roster::load(&engine, &Applied::default()).unwrap(), roster);
        let expected = Attributes { priority: Some(7), hidden: true, region, rack: None };
        assert_eq!(roster.of(NodeId(5)), expected);
        assert_eq!(roster.of(NodeId(9)), Attributes::default(), "it is no member");
        let mut draft = Draft::new(&engine);
        roster.members(&mut draft, &ids(&[1, 2]));
        assert_eq!(roster.of(NodeId(5)), Attributes::default());
        assert_eq!(roster.next_id(), Some(NodeId(6)));
    }

    #[test]
    fn the_format_of_version_1_stays() {
        let roster = Roster {
            attributes: [(NodeId(2), Attributes { hidden: true, ..Attributes::default() })].into(),
            highest: 4,
            replacing: Some(Replacement {
                old: NodeId(1),
                new: Member { id: NodeId(4), address: "a:1".into() },
            }),
        };
        let bytes = codec::encode(FORMAT, &roster);
        let hex = bytes.iter().fold(String::new(), |hex, b| hex + &format!("{b:02x}"));
        assert_eq!(&hex[..12], "544c726f0100", "magic, version");
        assert_eq!(&hex[28..], "010200010000040101 0403613a31".replace(' ', ""), "body");
    }
}
