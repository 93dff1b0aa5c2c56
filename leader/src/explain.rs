//! What a write mode and a read level give and cost together: a pure function of the members.

use std::time::Duration;

use common::consistency::{
    AckPoint, Available, Consistency, Cut, Fault, Loss, ReplicationMode, TradeOff, Visible, Who,
};
use common::ids::NodeId;

use crate::replication_mode::{Members, commit_is_enough, is_early};

/// The trade-off of a mode and a level, asked on a node that leads or follows.
pub(crate) fn explain(
    mode: &ReplicationMode,
    level: Consistency,
    members: &Members,
    lease: Duration,
    leads: bool,
) -> TradeOff {
    let voters = members.voters.len();
    let trips = |on_leader: u8, on_follower: u8| if leads { on_leader } else { on_follower };
    let write_round_trips = match mode {
        ReplicationMode::Async => trips(0, 1),
        // That it is committed goes to the members with the next message, and back.
        ReplicationMode::Sync { point: AckPoint::Applied, .. } => trips(2, 3),
        _ => trips(1, 2),
    };
    let write_round_trips = if voters == 1 { trips(0, 1) } else { write_round_trips };
    let read_round_trips = match level {
        Consistency::Strong if voters > 1 => trips(1, 2),
        Consistency::Strong | Consistency::Lease => trips(0, 1),
        _ => 0,
    };
    TradeOff {
        write: mode.clone(),
        read: level,
        loss: faults(mode, members, lease),
        availability: cuts(mode, level, members),
        write_round_trips,
        // The members sync at the same time.
        write_syncs: 1,
        read_round_trips,
        write_time: None,
        read_time: None,
        visible: visible(mode, level),
        proven_age: None,
        replies_that_wait: if is_early(mode) {
            "commands whose reply depends on the state are answered when they are committed".into()
        } else {
            String::new()
        },
        warnings: warnings(mode, members),
    }
}

/// Whether an acknowledged write is on a majority, so that every next leader has it.
fn on_majority(mode: &ReplicationMode, members: &Members) -> bool {
    match mode {
        ReplicationMode::Async => members.voters.len() == 1,
        ReplicationMode::SemiSync { followers } => {
            usize::from(*followers) + 1 > members.voters.len() / 2
        }
        ReplicationMode::Quorum | ReplicationMode::Sync { .. } => true,
    }
}

fn faults(mode: &ReplicationMode, members: &Members, lease: Duration) -> Vec<(Fault, Loss)> {
    let safe = on_majority(mode, members);
    let unless = |loss| if safe { Loss::Nothing } else { loss };
    // Whoever is cut off stops acknowledging when its lease is over.
    let cut = match mode {
        ReplicationMode::Async => Loss::Window(lease),
        _ => Loss::NotOnMajority,
    };
    let all = matches!(mode, ReplicationMode::Sync { who: Who::All, .. });
    let majority = if all { Loss::UnlessSurvive(1) } else { Loss::Anything };
    if members.voters.len() == 1 {
        let lost = [Fault::NodeLost, Fault::MajorityOfDisks].map(|fault| (fault, Loss::Anything));
        return [(Fault::Restart, Loss::Nothing)].into_iter().chain(lost).collect();
    }
    vec![
        (Fault::Restart, unless(Loss::NotOnMajority)),
        (Fault::NodeLost, unless(Loss::NotOnMajority)),
        (Fault::NodeCutOff, unless(cut)),
        (Fault::MinorityCutOff, unless(cut)),
        (Fault::MinorityOfDisks, unless(Loss::NotOnMajority)),
        (Fault::MajorityOfDisks, majority),
    ]
}

/// Whether writes are still acknowledged when so many voters, whichever they are, do not answer.
fn bears(mode: &ReplicationMode, members: &Members, away: usize) -> bool {
    let named = |of: &[NodeId]| {
        let distinct: std::collections::BTreeSet<&NodeId> = of.iter().collect();
        distinct.len().saturating_sub(away)
    };
    match mode {
        ReplicationMode::SemiSync { followers } if !commit_is_enough(mode, members) => {
            members.voters.len() - 1 - away >= usize::from(*followers)
        }
        ReplicationMode::Async | ReplicationMode::SemiSync { .. } | ReplicationMode::Quorum => true,
        ReplicationMode::Sync { who, .. } => match who {
            Who::All => away == 0,
            Who::First(n, of) | Who::Any(n, of) => named(of) >= usize::from(*n),
            Who::EachDatacenter(regions) => regions.iter().all(|(region, n)| {
                let there = members.regions.values().filter(|r| *r == region).count();
                there.saturating_sub(away) >= usize::from(*n)
            }),
        },
    }
}

fn cuts(mode: &ReplicationMode, level: Consistency, members: &Members) -> Vec<(Cut, Available)> {
    let voters = members.voters.len();
    if voters == 1 {
        return Vec::new();
    }
    let minority = (voters - 1) / 2;
    // What a replica has it gives without asking anybody.
    let alone = matches!(level, Consistency::Eventual);
    let available = |away: usize, majority: bool| Available {
        writes: [false, majority && bears(mode, members, away)],
        reads: [alone, alone || majority],
    };
    let mut cuts =
        vec![(Cut::OneFollower, available(1, voters > 2)), (Cut::Leader, available(1, voters > 2))];
    if minority > 1 {
        cuts.push((Cut::LeaderWithMinority, available(minority, true)));
    }
    cuts.push((Cut::NoMajority, available(voters - minority, false)));
    cuts
}

fn visible(mode: &ReplicationMode, level: Consistency) -> Visible {
    let on_all = ReplicationMode::Sync { who: Who::All, point: AckPoint::Applied };
    match level {
        Consistency::Causal => Visible::WithToken,
        // No read sees what is not committed.
        _ if is_early(mode) => Visible::Eventually,
        Consistency::Strong | Consistency::Lease => Visible::Immediately,
        Consistency::Bounded(age) => Visible::Within(age),
        Consistency::Eventual if *mode == on_all => Visible::Immediately,
        Consistency::Eventual => Visible::Eventually,
    }
}

fn warnings(mode: &ReplicationMode, members: &Members) -> Vec<String> {
    let voters = members.voters.len();
    let mut warnings = Vec::new();
    if voters == 1 {
        warnings.push("one voter: its disk is the only copy".to_owned());
    } else if voters.is_multiple_of(2) {
        warnings.push(format!(
            "{voters} voters bear no more failures than {}: add one or remove one",
            voters - 1
        ));
    }
    if voters > 1 && !on_majority(mode, members) {
        warnings.push("a failover may lose acknowledged writes; their receipts tell".to_owned());
    }
    if voters > 1 && !bears(mode, members, 1) {
        warnings.push("one member that does not answer stops these writes".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(600);

    fn voters(count: u64) -> Members {
        Members { voters: (1..=count).map(NodeId).collect(), ..Members::default() }
    }

    fn asked(mode: ReplicationMode, level: Consistency, count: u64) -> TradeOff {
        explain(&mode, level, &voters(count), LEASE, true)
    }

    fn loss(mode: ReplicationMode, count: u64, fault: Fault) -> Loss {
        let table = asked(mode, Consistency::Strong, count).loss;
        table.into_iter().find(|(f, _)| *f == fault).unwrap().1
    }

    const fn semi(followers: u8) -> ReplicationMode {
        ReplicationMode::SemiSync { followers }
    }

    fn all(point: AckPoint) -> ReplicationMode {
        ReplicationMode::Sync { who: Who::All, point }
    }

    #[test]
    fn what_each_mode_may_lose_is_the_table_of_the_design() {
        use Fault::{MajorityOfDisks, MinorityCutOff, MinorityOfDisks, NodeCutOff, NodeLost};
        for fault in [Fault::Restart, NodeLost, NodeCutOff, MinorityCutOff, MinorityOfDisks] {
            for safe in [semi(1), ReplicationMode::Quorum, all(AckPoint::Durable)] {
                assert_eq!(loss(safe, 3, fault), Loss::Nothing, "{fault}");
            }
            assert_eq!(loss(semi(1), 5, fault), Loss::NotOnMajority, "{fault}: two of five");
            assert_eq!(loss(semi(2), 5, fault), Loss::Nothing, "{fault}: three of five");
            assert_ne!(loss(ReplicationMode::Async, 3, fault), Loss::Nothing, "{fault}");
        }
        assert_eq!(loss(ReplicationMode::Async, 3, NodeCutOff), Loss::Window(LEASE));
        assert_eq!(loss(ReplicationMode::Quorum, 3, MajorityOfDisks), Loss::Anything);
        assert_eq!(loss(all(AckPoint::Durable), 3, MajorityOfDisks), Loss::UnlessSurvive(1));
    }

    #[test]
    fn who_asks_for_all_stops_with_one_and_who_asks_for_a_majority_does_not() {
        let rest = |mode, count| {
            let table = asked(mode, Consistency::Strong, count).availability;
            table
                .into_iter()
                .map(|(cut, can)| (cut, can.writes[1], can.reads[1]))
                .collect::<Vec<_>>()
        };
        let quorum = rest(ReplicationMode::Quorum, 5);
        assert_eq!(quorum.len(), 4);
        assert!(quorum[..3].iter().all(|(_, writes, reads)| *writes && *reads), "{quorum:?}");
        assert_eq!(quorum[3], (Cut::NoMajority, false, false));
        assert!(rest(all(AckPoint::Applied), 5).iter().all(|(_, writes, _)| !writes));
        assert!(rest(semi(4), 5).iter().all(|(_, writes, _)| !writes));
        assert!(rest(ReplicationMode::Quorum, 2).iter().all(|(_, writes, _)| !writes));
        let alone = asked(ReplicationMode::Quorum, Consistency::Eventual, 3).availability;
        assert!(alone.iter().all(|(_, can)| can.reads[0] && !can.writes[0]), "{alone:?}");
    }

    #[test]
    fn no_read_level_shows_an_early_acknowledged_write_at_once() {
        for level in [Consistency::Strong, Consistency::Lease, Consistency::Eventual] {
            assert_eq!(asked(ReplicationMode::Async, level, 3).visible, Visible::Eventually);
        }
        let causal = asked(ReplicationMode::Async, Consistency::Causal, 3);
        assert_eq!(causal.visible, Visible::WithToken);
        assert!(!causal.replies_that_wait.is_empty());
        let strong = asked(ReplicationMode::Quorum, Consistency::Strong, 3);
        assert_eq!(strong.visible, Visible::Immediately);
        assert_eq!((strong.write_round_trips, strong.read_round_trips), (1, 1));
        let everywhere = asked(all(AckPoint::Applied), Consistency::Eventual, 3);
        assert_eq!(everywhere.visible, Visible::Immediately);
        assert!(everywhere.warnings[0].contains("stops these writes"));
    }
}
