//! Where votes may stand: what a change of the members would put in danger, found before it is made.
//!
//! A cluster survives the loss of what holds fewer votes than a majority. A region, or a rack, that
//! alone holds a majority takes the cluster with it; so does a change after which fewer voters live
//! than a majority needs. Such a change is refused until its danger is named.
//!
//! Where all voters share one label, before and after, there is no choice to be made and no rule:
//! whoever runs in one region has decided that. Members without a label count for none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use common::ids::{NodeId, Region};
use serde::{Deserialize, Serialize};

/// A danger that a change may bring, to be named by who accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Danger {
    /// One region would hold a majority of the votes: without it nothing is written.
    RegionMajority,
    /// One rack would hold a majority of the votes.
    RackMajority,
    /// Fewer of the new voters live than their majority: the change itself could hang, and no
    /// further failure would be survived.
    FewLive,
}

impl Danger {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::RegionMajority, Self::RackMajority, Self::FewLive];

    /// The name by which it is accepted.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RegionMajority => "region-majority",
            Self::RackMajority => "rack-majority",
            Self::FewLive => "few-live",
        }
    }
}

impl fmt::Display for Danger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is allowed and still worth a thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Warning {
    /// An even number of voters survives no more failures than one fewer, and each is one more that
    /// may fail.
    EvenVoters,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EvenVoters => f.write_str(
                "an even number of voters survives no more failures than one voter fewer",
            ),
        }
    }
}

/// Where members stand, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) regions: BTreeMap<NodeId, Region>,
    pub(crate) racks: BTreeMap<NodeId, String>,
}

/// What a change would bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Dangers, each in words, in the order in which they are refused.
    pub(crate) dangers: Vec<(Danger, String)>,
    pub(crate) warnings: Vec<Warning>,
}

/// Judges a change of the voters from `before` to `after`, of which `live` are known to live.
pub(crate) fn judge(
    before: &BTreeSet<NodeId>,
    after: &BTreeSet<NodeId>,
    live: &BTreeSet<NodeId>,
    places: &Places,
) -> Judged {
    let majority = after.len() / 2 + 1;
    let mut judged = Judged::default();
    if before != after {
        let region = |id: &NodeId| places.regions.get(id).map(|region| region.0.clone());
        if let Some((label, held)) = holder(before, after, majority, region) {
            let why = format!("the region {label:?} would hold {held} of {} votes", after.len());
            judged.dangers.push((Danger::RegionMajority, why));
        }
        // Racks of one name in two regions are two racks.
        let rack = |id: &NodeId| {
            let rack = places.racks.get(id)?;
            Some(region(id).map_or_else(|| rack.clone(), |region| format!("{region}/{rack}")))
        };
        if let Some((label, held)) = holder(before, after, majority, rack) {
            let why = format!("the rack {label:?} would hold {held} of {} votes", after.len());
            judged.dangers.push((Danger::RackMajority, why));
        }
        if after.len().is_multiple_of(2) {
            judged.warnings.push(Warning::EvenVoters);
        }
    }
    let alive = after.intersection(live).count();
    if alive < majority {
        let why = format!("{alive} of {} voters live, and {majority} make a majority", after.len());
        judged.dangers.push((Danger::FewLive, why));
    }
    judged
}

/// The label that alone would hold a majority, and how many votes it would have.
fn holder(
    before: &BTreeSet<NodeId>,
    after: &BTreeSet<NodeId>,
    majority: usize,
    label: impl Fn(&NodeId) -> Option<String>,
) -> Option<(String, usize)> {
    let mut votes: BTreeMap<String, usize> = BTreeMap::new();
    for label in after.iter().filter_map(&label) {
        *votes.entry(label).or_default() += 1;
    }
    let found = votes.into_iter().find(|(_, held)| *held >= majority)?;
    let chosen = before.union(after).all(|id| label(id).as_ref() == Some(&found.0));
    (!chosen).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(all: &[u64]) -> BTreeSet<NodeId> {
        all.iter().copied().map(NodeId).collect()
    }

    /// Each member's label is a letter of the text, by id from 1; a dot for none.
    fn regions(text: &str) -> Places {
        let labels = (1..).zip(text.chars()).filter(|(_, label)| *label != '.');
        let regions = labels.map(|(id, label)| (NodeId(id), Region(label.to_string()))).collect();
        Places { regions, racks: BTreeMap::new() }
    }

    fn dangers(before: &[u64], after: &[u64], live: &[u64], places: &Places) -> Vec<Danger> {
        let judged = judge(&ids(before), &ids(after), &ids(live), places);
        judged.dangers.into_iter().map(|(danger, _)| danger).collect()
    }

    /// Labels of the nodes, the voters before and after, and what is dangerous about it.
    type Labelled<'a> = (&'a str, &'a [u64], &'a [u64], &'a [Danger]);
    /// The voters before and after, those that live, and whether it is dangerous.
    type Living<'a> = (&'a [u64], &'a [u64], &'a [u64], bool);

    #[test]
    fn a_region_that_alone_holds_a_majority_is_a_danger() {
        use Danger::RegionMajority as R;
        let all = [1, 2, 3, 4, 5];
        let cases: [Labelled<'_>; 12] = [
            ("abc", &[1, 2], &[1, 2, 3], &[]),
            ("aba", &[1, 2], &[1, 2, 3], &[R]),
            ("aba", &[1, 2, 3], &[1, 2], &[]),
            ("aab", &[1, 2, 3], &[1, 2], &[R]),
            ("aaa", &[1, 2], &[1, 2, 3], &[]),
            ("aa.", &[1, 2], &[1, 2, 3], &[R]),
            ("...", &[1, 2], &[1, 2, 3], &[]),
            ("aabbc", &[1, 3, 5], &[1, 2, 3, 4, 5], &[]),
            ("aaabc", &[1, 4, 5], &[1, 2, 3, 4, 5], &[R]),
            ("aabb", &[1, 3], &[1, 2, 3, 4], &[]),
            ("aaab", &[1, 2, 4], &[1, 2, 3, 4], &[R]),
            ("ab", &[1, 2], &[1], &[R]),
        ];
        for (labels, before, after, expected) in cases {
            let found = dangers(before, after, &all, &regions(labels));
            assert_eq!(found, expected, "{labels}: {before:?} to {after:?}");
        }
    }

    #[test]
    fn racks_are_judged_after_regions_and_within_them() {
        let racks =
            |text: &str| (1..).map(NodeId).zip(text.chars().map(|rack| rack.to_string())).collect();
        let all = [1, 2, 3];
        let places = |regions_of: &str, racks_of: &str| Places {
            racks: racks(racks_of),
            ..regions(regions_of)
        };
        let judged = |places: &Places| dangers(&[1, 2], &all, &all, places);
        assert_eq!(judged(&places("...", "xyx")), [Danger::RackMajority]);
        assert_eq!(judged(&places("aaa", "xyx")), [Danger::RackMajority]);
        assert_eq!(judged(&places("abc", "xxx")), [], "three racks of one name");
        assert_eq!(
            judged(&places("aba", "xyx")),
            [Danger::RegionMajority, Danger::RackMajority],
            "the region first"
        );
    }

    #[test]
    fn a_change_needs_a_majority_of_the_new_voters_to_live() {
        let none = Places::default();
        let cases: [Living<'_>; 6] = [
            (&[1, 2, 3], &[1, 2, 3, 4], &[1, 2, 3], false),
            (&[1, 2, 3], &[1, 2, 3, 4], &[1, 2], true),
            (&[1, 2, 3], &[1, 2], &[1], true),
            (&[1, 2, 3], &[1, 2, 4], &[1, 4], false),
            (&[1, 2, 3], &[1, 2, 3], &[1], true),
            (&[1, 2, 3], &[1, 2, 3], &[1, 2], false),
        ];
        for (before, after, live, few) in cases {
            let found = dangers(before, after, live, &none);
            let expected: &[Danger] = if few { &[Danger::FewLive] } else { &[] };
            assert_eq!(found, expected, "{before:?} to {after:?}, {live:?} live");
        }
    }

    #[test]
    fn an_even_number_of_voters_is_worth_a_warning() {
        let judged = |before: &[u64], after: &[u64]| {
            judge(&ids(before), &ids(after), &ids(after), &Places::default()).warnings
        };
        assert_eq!(judged(&[1, 2, 3], &[1, 2, 3, 4]), [Warning::EvenVoters]);
        assert_eq!(judged(&[1, 2, 3, 4], &[1, 2, 3, 4, 5]), []);
        assert_eq!(judged(&[1, 2], &[1, 2]), [], "nothing changes");
    }
}
