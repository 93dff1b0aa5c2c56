//! Known bugs of other systems as named scenarios, and the proof that each would be noticed.
//!
//! A scenario is a short script over a simulated cluster. In the build with the feature `mutants`
//! it is told again with a bug planted, and must fail then: a script that passes with the bug shows
//! nothing. Where the bug would be inside openraft, the marks say that the script came to the place.
//! `docs/claims.md` has the table.
#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "the storyteller's clock is tokio's paused one")]

#[allow(dead_code, reason = "another test uses the rest")]
#[path = "../../../leader/tests/cluster/group.rs"]
mod group;

mod elections;
mod reads;
mod storage;
mod writes;

/// A scenario, what must make it fail, and where it must come along.
struct Scenario {
    name: &'static str,
    tell: fn(),
    #[cfg_attr(not(feature = "mutants"), allow(dead_code, reason = "no bugs are planted"))]
    mutant: Option<&'static str>,
    marks: &'static [&'static str],
}

impl Scenario {
    fn play(&self) {
        let _ = common::mark::take();
        (self.tell)();
        let fired = common::mark::take();
        for mark in self.marks {
            assert!(fired.contains(mark), "{} never came to {mark}: {fired:?}", self.name);
        }
    }
}

macro_rules! scenarios {
    ($($theme:ident::$name:ident $(fails_on $mutant:literal)? $(reaches $($mark:literal),+)?;)*) => {
        const ALL: &[Scenario] = &[$(Scenario {
            name: stringify!($name),
            tell: $theme::$name,
            mutant: [$($mutant,)? ""].first().copied(),
            marks: &[$($($mark),+)?],
        }),*];

        $(#[test]
        fn $name() {
            ALL.iter().find(|s| s.name == stringify!($name)).unwrap().play();
        })*
    };
}

scenarios! {
    elections::restored_leader_reuses_term fails_on "leader_restore_enabled";
    elections::restart_forgets_lease fails_on "votes_right_after_restart";
    elections::lease_read_during_transfer fails_on "lease_never_checked";
    elections::transfer_never_ends fails_on "failed_transfer_leaves_the_core" reaches "core-reopened";
    elections::transfer_to_lagging fails_on "failed_transfer_leaves_the_core";
    elections::partial_cut_no_leader fails_on "quorum_loss_never_noticed";
    elections::disruptive_rejoin fails_on "no_pre_vote";
    elections::outdated_node_elected fails_on "votes_for_a_shorter_log";
    elections::stalled_disk_keeps_leading fails_on "stalled_disk_never_noticed"
        reaches "leadership-moved-by-the-agent";
    elections::unsynced_vote fails_on "vote_not_durable";
    reads::paused_leader_reads fails_on "lease_never_checked";
    reads::new_leader_reads_backlog fails_on "local_read_called_strong" reaches "read-waited-for-apply";
    reads::follower_read_over_leader_change fails_on "local_read_called_strong"
        reaches "transfer-completed";
    reads::causal_at_every_level fails_on "causal_reads_do_not_wait";
    reads::level_ignored fails_on "bounded_reads_trust_old_proofs";
    reads::unsynced_read;
    reads::feed_gaps fails_on "snapshot_gap_untold" reaches "snapshot-installed";
    writes::commit_without_quorum fails_on "follower_acks_without_append";
    writes::majority_ack_lost;
    writes::single_node_ack;
    writes::silent_async_fallback fails_on "semi_sync_degrades_silently";
    writes::cancelled_wait_visible_then_lost fails_on "uncommitted_read";
    writes::unknown_after_leadership_loss fails_on "timeout_called_not_applied" reaches "write-unknown";
    writes::uncommitted_tail_unbounded fails_on "proposals_without_limit" reaches "proposal-overloaded";
    writes::retry_applies_twice fails_on "retry_applies_twice" reaches "dedup-hit";
    writes::deletes_missing_from_rollback fails_on "lost_tail_forgotten" reaches "rolled-back";
    writes::hung_follower_freezes_core;
    storage::snapshot_omits_keyspace fails_on "dedup_not_in_snapshot" reaches "snapshot-installed";
    storage::follower_behind_full_purge fails_on "snapshot_drops_last_key"
        reaches "snapshot-installed";
    storage::stranded_after_snapshot fails_on "lost_tail_forgotten" reaches "snapshot-installed";
    storage::restore_diverges fails_on "snapshot_drops_last_key" reaches "snapshot-installed";
    storage::applied_index_apart_from_data fails_on "ack_before_sync";
    storage::journal_cut_in_the_middle fails_on "damage_in_the_middle_cut"
        reaches "corruption-refused";
}

#[cfg(feature = "mutants")]
mod planted {
    use std::collections::BTreeSet;

    use integration_tests::mutant::{self, SCENARIO};

    use super::ALL;

    #[test]
    fn every_scenario_fails_on_its_mutant() {
        let mut alive = Vec::new();
        for scenario in ALL {
            let Some(name) = scenario.mutant.filter(|name| !name.is_empty()) else { continue };
            let planted = mutant::static_name(name);
            assert!(planted.is_some(), "{name} is not in mutants.toml");
            common::mutant::select(planted);
            let told = std::panic::catch_unwind(scenario.tell);
            common::mutant::select(None);
            if told.is_ok() {
                alive.push((scenario.name, name));
            }
        }
        assert_eq!(alive, [], "these pass with the bug that they are to notice");
    }

    #[test]
    fn every_mutant_left_to_scenarios_has_one() {
        let named: BTreeSet<_> = ALL.iter().filter_map(|s| s.mutant).collect();
        for mutant in mutant::all().iter().filter(|m| m.killed_by == SCENARIO) {
            assert!(named.contains(mutant.name.as_str()), "{} has no scenario", mutant.name);
        }
    }
}
