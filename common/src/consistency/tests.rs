//! What levels, modes and trade-offs are called, on a terminal and on the wire.

use super::*;
use crate::codec;

fn region(name: &str) -> Region {
    Region(name.to_owned())
}

#[test]
fn levels_and_modes_have_one_name_each() {
    let two = vec![NodeId(1), NodeId(4)];
    let regions = BTreeMap::from([(region("eu"), 2), (region("us"), 1)]);
    let sync = |who, point| ReplicationMode::Sync { who, point }.to_string();
    for (name, expected) in [
        (Consistency::Eventual.to_string(), "eventual"),
        (Consistency::Bounded(Duration::from_millis(1500)).to_string(), "bounded 1500 ms"),
        (Consistency::Causal.to_string(), "causal"),
        (Consistency::Strong.to_string(), "strong"),
        (Consistency::Lease.to_string(), "lease"),
        (ReplicationMode::Async.to_string(), "async"),
        (ReplicationMode::SemiSync { followers: 2 }.to_string(), "semi-sync(2)"),
        (ReplicationMode::Quorum.to_string(), "quorum"),
        (sync(Who::All, AckPoint::Applied), "sync(all, applied)"),
        (sync(Who::First(1, two.clone()), AckPoint::Durable), "sync(first 1 of 1 4, durable)"),
        (sync(Who::Any(2, two), AckPoint::Durable), "sync(any 2 of 1 4, durable)"),
        (
            sync(Who::EachDatacenter(regions), AckPoint::Applied),
            "sync(datacenter eu=2 us=1, applied)",
        ),
    ] {
        assert_eq!(name, expected);
    }
}

/// They travel in requests and receipts, so their numbers never change.
#[test]
fn levels_and_modes_keep_their_numbers() {
    let levels = [
        Level::Any,
        Level::One,
        Level::Two,
        Level::Three,
        Level::Quorum,
        Level::LocalOne,
        Level::LocalQuorum,
        Level::EachQuorum,
        Level::All,
    ];
    for (number, level) in (0..).zip(levels) {
        assert_eq!(codec::encode_body(&level), [number]);
    }
    assert_eq!(codec::encode_body(&Level::Exactly(3)), [9, 3]);
    let reads = [Consistency::Eventual, Consistency::Causal, Consistency::Strong];
    assert_eq!(reads.map(|read| codec::encode_body(&read)), [[0], [2], [3]]);
    assert_eq!(codec::encode_body(&Consistency::Lease), [4]);
    assert_eq!(codec::encode_body(&ReplicationMode::Async), [0]);
    assert_eq!(codec::encode_body(&ReplicationMode::SemiSync { followers: 1 }), [1, 1]);
    assert_eq!(codec::encode_body(&ReplicationMode::Quorum), [2]);
    let all = ReplicationMode::Sync { who: Who::All, point: AckPoint::Applied };
    assert_eq!(codec::encode_body(&all), [3, 0, 1]);
    assert_eq!(codec::decode_body(&[3, 0, 1]), Ok(all));
}

#[test]
fn a_trade_off_reads_as_a_table() {
    let cut = |writes, reads| Available { writes, reads };
    let table = TradeOff {
        write: ReplicationMode::SemiSync { followers: 1 },
        read: Consistency::Causal,
        loss: vec![
            (Fault::Restart, Loss::Nothing),
            (Fault::NodeLost, Loss::UnreplicatedTail),
            (Fault::NodeCutOff, Loss::Window(Duration::from_millis(600))),
            (Fault::MinorityCutOff, Loss::Window(Duration::from_millis(600))),
            (Fault::MinorityOfDisks, Loss::UnlessSurvive(1)),
            (Fault::MajorityOfDisks, Loss::Anything),
        ],
        availability: vec![
            (Cut::OneFollower, cut([false, true], [true, true])),
            (Cut::Leader, cut([false, true], [false, true])),
            (Cut::LeaderWithMinority, cut([true, false], [false, true])),
            (Cut::NoMajority, cut([false, false], [false, false])),
        ],
        write_round_trips: 1,
        write_syncs: 2,
        read_round_trips: 0,
        write_time: Some(Duration::from_micros(2_340)),
        read_time: None,
        visible: Visible::WithToken,
        proven_age: Some(Duration::from_millis(55)),
        replies_that_wait: "INCR, DEL".to_owned(),
        warnings: vec!["region eu alone holds a majority".to_owned()],
    };
    let printed = "\
write semi-sync(1), read causal
may lose, and tells:
  process killed, restarts: nothing
  node and its disk lost: what no other node has yet
  node cut off alone: what was acknowledged within 600 ms
  node cut off with a minority: what was acknowledged within 600 ms
  one disk less than a majority destroyed: nothing while 1 of the disks survive
  majority of disks destroyed: anything
works under a cut:
  one follower | rest: reads | writes and reads
  leader | rest: nothing | writes and reads
  leader and a minority | rest: writes | reads
  no side has a majority: nothing | nothing
a write waits for 1 round trips and 2 syncs, about 2.3 ms
a read waits for 0 round trips
others see a write: at once with the writer's token, else when it has spread
a read is at most 55 ms old now
wait longer: INCR, DEL
warning: region eu alone holds a majority
";
    assert_eq!(table.to_string(), printed);
    assert_eq!(codec::decode_body(&codec::encode_body(&table)), Ok(table));
}
