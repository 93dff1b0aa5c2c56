//! What the simulated disk does that no program should have to see.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Counts, ReadFault, SimDisk, SimDiskConfig};
use crate::env::SplitMix64;
use crate::env::simulated::{SimWorldClock, Trace};
use crate::ids::{Incarnation, NodeId};
use crate::storage::disk::{Disk, DiskError, File, Open};

fn disk(seed: u64) -> SimDisk {
    let rng = SplitMix64::new(seed);
    let config = SimDiskConfig { sector_bytes: 512, ..SimDiskConfig::default() };
    SimDisk::new(NodeId(1), &SimWorldClock::new(), &rng, Trace::keeping(1000), config)
}

async fn file(disk: &dyn Disk, path: &str) -> Arc<dyn File> {
    disk.open(path, Open::Any).await.unwrap()
}

async fn content(disk: &dyn Disk, path: &str) -> Bytes {
    let file = disk.open(path, Open::Existing).await.unwrap();
    file.read_at(0, 1 << 20).await.unwrap()
}

/// A durable file of zeros, whose name is durable too.
async fn zeros(disk: &dyn Disk, sectors: usize) -> Arc<dyn File> {
    let file = file(disk, "f").await;
    file.write_and_sync(0, Bytes::from(vec![0; 512 * sectors])).await.unwrap();
    disk.sync_dir("").await.unwrap();
    file
}

#[tokio::test(start_paused = true)]
async fn a_power_loss_leaves_each_unsynced_sector_old_new_or_torn() {
    let mut seen = BTreeSet::new();
    for seed in 0..20 {
        let disk = disk(seed);
        let mount = disk.mount(Incarnation(1));
        let file = zeros(&*mount, 8).await;
        file.write_and_sync(512, Bytes::from(vec![1; 512])).await.unwrap();
        // The second half of the third sector is written; its first half is not touched.
        file.write_at(512 * 2 + 256, Bytes::from(vec![2; 256])).await.unwrap();
        file.write_at(512 * 4, Bytes::from(vec![3; 1024])).await.unwrap();
        disk.power_loss();
        let found = content(&*disk.mount(Incarnation(2)), "f").await;
        assert_eq!(found[..512], [0; 512]);
        assert_eq!(found[512..1024], [1; 512], "what was synced stays");
        assert_eq!(found[1024..1280], [0; 256], "what was not touched stays");
        for (start, end, new) in [(1280, 1536, 2), (2048, 2560, 3), (2560, 3072, 3)] {
            let sector = &found[start..end];
            seen.insert(match sector {
                _ if sector.iter().all(|b| *b == 0) => "old",
                _ if sector.iter().all(|b| *b == new) => "new",
                _ if sector.iter().all(|b| *b == 0 || *b == new) => "prefix",
                _ => "garbage",
            });
        }
        assert_eq!(found[3072..], [0; 1024]);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["garbage", "new", "old", "prefix"]);
}

#[tokio::test(start_paused = true)]
async fn a_process_crash_keeps_the_cache_and_an_older_incarnation_is_swallowed() {
    let disk = disk(1);
    let old = disk.mount(Incarnation(1));
    let file = file(&*old, "f").await;
    file.write_at(0, Bytes::from_static(b"cached")).await.unwrap();
    disk.crash();
    assert!(file.write_at(0, Bytes::from_static(b"zombie")).await.is_err());
    let new = disk.mount(Incarnation(2));
    assert!(file.sync().await.is_err());
    assert!(old.open("g", Open::New).await.is_err());
    assert!(old.list("").await.is_err());
    assert_eq!(content(&*new, "f").await, "cached");
    assert_eq!(new.list("").await.unwrap(), ["f"]);
}

#[tokio::test(start_paused = true)]
async fn a_sync_that_is_under_way_when_the_node_dies_may_not_have_happened() {
    let disk = disk(1);
    let mount = disk.mount(Incarnation(1));
    let file = zeros(&*mount, 1).await;
    file.write_at(0, Bytes::from_static(b"new")).await.unwrap();
    let sync = file.sync();
    let (sync, ()) = tokio::join!(sync, async { disk.crash() });
    assert!(sync.is_err());
    assert_eq!(content(&*disk.durable_image().mount(Incarnation(1)), "f").await[..3], [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_write_during_a_sync_waits_for_the_next_one() {
    let disk = disk(1);
    let mount = disk.mount(Incarnation(1));
    let file = zeros(&*mount, 2).await;
    file.write_at(0, Bytes::from_static(b"first")).await.unwrap();
    let writes = async {
        tokio::task::yield_now().await;
        file.write_at(0, Bytes::from_static(b"later")).await.unwrap();
        file.write_at(512, Bytes::from_static(b"later")).await.unwrap();
    };
    let (sync, ()) = tokio::join!(file.sync(), writes);
    sync.unwrap();
    let image = content(&*disk.durable_image().mount(Incarnation(1)), "f").await;
    assert_eq!((&image[..5], &image[512..517]), (&b"first"[..], &[0; 5][..]));
    file.sync().await.unwrap();
    let image = content(&*disk.durable_image().mount(Incarnation(1)), "f").await;
    assert_eq!((&image[..5], &image[512..517]), (&b"later"[..], &b"later"[..]));
}

/// Rebello et al. 2020: the page is clean and new, the platter is old, the next sync succeeds.
#[tokio::test(start_paused = true)]
async fn after_a_failed_sync_the_next_one_succeeds_and_the_bytes_are_not_durable() {
    let disk = disk(1);
    let mount = disk.mount(Incarnation(1));
    let file = zeros(&*mount, 1).await;
    file.write_at(0, Bytes::from_static(b"new")).await.unwrap();
    disk.fail_next_sync();
    assert!(matches!(file.sync().await, Err(DiskError::Io { operation: "sync", .. })));
    file.sync().await.unwrap();
    assert_eq!(content(&*mount, "f").await[..3], *b"new", "the cache shows it");
    disk.power_loss();
    assert_eq!(content(&*disk.mount(Incarnation(2)), "f").await[..3], [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn names_are_durable_with_the_sync_of_their_folder_and_of_those_above() {
    let mut kept = 0;
    for seed in 0..40 {
        let disk = disk(seed);
        let mount = disk.mount(Incarnation(1));
        mount.create_dir("d").await.unwrap();
        file(&*mount, "d/f").await.write_and_sync(0, Bytes::from_static(b"x")).await.unwrap();
        mount.sync_dir("d").await.unwrap();
        disk.power_loss();
        let mount = disk.mount(Incarnation(2));
        let there = mount.list("").await.unwrap() == ["d/"];
        // The folder's own name was not synced; with it goes or stays what is in it.
        assert_eq!(mount.list("d").await.unwrap().is_empty(), !there);
        kept += u32::from(there);
    }
    assert!((5..35).contains(&kept), "{kept} of 40");
    let disk = disk(1);
    let mount = disk.mount(Incarnation(1));
    file(&*mount, "old").await;
    mount.sync_dir("").await.unwrap();
    mount.rename("old", "new").await.unwrap();
    let image = disk.durable_image().mount(Incarnation(1));
    assert_eq!(image.list("").await.unwrap(), ["old"]);
    mount.sync_dir("").await.unwrap();
    let image = disk.durable_image().mount(Incarnation(1));
    assert_eq!(image.list("").await.unwrap(), ["new"]);
    disk.fail_next_dir_sync();
    mount.remove("new").await.unwrap();
    assert!(mount.sync_dir("").await.is_err());
    mount.sync_dir("").await.unwrap();
    assert_eq!(mount.list("").await.unwrap(), [""; 0]);
    disk.power_loss();
    assert_eq!(disk.mount(Incarnation(2)).list("").await.unwrap(), ["new"]);
}

#[tokio::test(start_paused = true)]
async fn syncs_take_time_stall_and_slow_down() {
    let rng = SplitMix64::new(1);
    let world = SimWorldClock::new();
    let disk = SimDisk::new(NodeId(1), &world, &rng, Trace::default(), SimDiskConfig::default());
    let mount = disk.mount(Incarnation(1));
    let file = file(&*mount, "f").await;
    let start = world.elapsed();
    for _ in 0..100 {
        file.write_and_sync(0, Bytes::from_static(b"x")).await.unwrap();
    }
    let took = world.elapsed().saturating_sub(start);
    assert!((150..350).contains(&took.as_millis()), "100 syncs took {took:?}");
    disk.set_slow(100);
    let start = world.elapsed();
    file.write_and_sync(0, Bytes::from_static(b"x")).await.unwrap();
    assert!(world.elapsed().saturating_sub(start) > Duration::from_millis(100));
    disk.set_slow(1);
    disk.stall_syncs(true);
    let start = world.elapsed();
    let free = async {
        world.sleep_until(start + Duration::from_secs(30)).await;
        file.read_at(0, 1).await.unwrap();
        disk.stall_syncs(false);
    };
    let (sync, ()) = tokio::join!(file.sync(), free);
    sync.unwrap();
    assert!(world.elapsed().saturating_sub(start) >= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_takes_what_it_has_reserved_and_goes_on_with_space() {
    let disk = disk(1);
    disk.set_quota(Some(512 * 10));
    let mount = disk.mount(Incarnation(1));
    let (a, b) = (file(&*mount, "a").await, file(&*mount, "b").await);
    a.allocate(512 * 4).await.unwrap();
    let full = |path: &str| Err(DiskError::Full { path: path.into() });
    assert_eq!(b.allocate(512 * 7).await, full("b"));
    assert_eq!(b.len().await.unwrap(), 0);
    b.write_at(0, Bytes::from(vec![1; 512 * 6])).await.unwrap();
    a.write_at(0, Bytes::from(vec![1; 512 * 4])).await.unwrap();
    assert_eq!(a.write_at(512 * 4, Bytes::from_static(b"x")).await, full("a"));
    assert_eq!(disk.usage(), 512 * 10);
    mount.remove("b").await.unwrap();
    a.write_at(512 * 4, Bytes::from_static(b"x")).await.unwrap();
    disk.set_full(true);
    assert_eq!(a.write_at(512 * 5, Bytes::from_static(b"x")).await, full("a"));
    disk.set_full(false);
    a.write_at(512 * 5, Bytes::from_static(b"x")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn reads_fail_and_bits_rot_where_they_are_told_to() {
    let disk = disk(1);
    let mount = disk.mount(Incarnation(1));
    let file = zeros(&*mount, 4).await;
    disk.fail_reads("f", 600, ReadFault::Once);
    file.read_at(0, 512).await.unwrap();
    assert!(file.read_at(0, 2048).await.is_err());
    file.read_at(0, 2048).await.unwrap();
    disk.fail_reads("f", 600, ReadFault::ForEver);
    assert!(file.read_at(1023, 1).await.is_err());
    assert!(file.read_at(1023, 1).await.is_err());
    disk.flip("f", 100, 0b1000);
    assert_eq!(file.read_at(100, 1).await.unwrap(), [0b1000_u8][..]);
    disk.power_loss();
    let found = disk.mount(Incarnation(2));
    let file = found.open("f", Open::Existing).await.unwrap();
    assert_eq!(file.read_at(100, 1).await.unwrap(), [0b1000_u8][..], "at rest");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_machine_does_nothing_more() {
    let disk = disk(1);
    disk.stop_after(3);
    let mount = disk.mount(Incarnation(1));
    let file = file(&*mount, "f").await;
    file.write_and_sync(0, Bytes::from_static(b"x")).await.unwrap();
    assert!(file.write_at(0, Bytes::from_static(b"y")).await.is_err());
    assert!(file.read_at(0, 1).await.is_err());
    assert_eq!(disk.counts(), Counts { changes: 3, syncs: 1, dir_syncs: 0, written: 1 });
    disk.crash();
    assert_eq!(content(&*disk.mount(Incarnation(2)), "f").await, "x");
}

#[tokio::test(start_paused = true)]
async fn equal_seeds_leave_equal_disks_and_equal_traces() {
    async fn run(seed: u64) -> (Bytes, Duration, String) {
        let world = SimWorldClock::new();
        let trace = Trace::keeping(100);
        let rng = SplitMix64::new(seed);
        let disk = SimDisk::new(NodeId(1), &world, &rng, trace.clone(), SimDiskConfig::default());
        let mount = disk.mount(Incarnation(1));
        let file = zeros(&*mount, 100).await;
        file.write_at(0, Bytes::from(vec![7; 512 * 100])).await.unwrap();
        disk.power_loss();
        let found = content(&*disk.mount(Incarnation(2)), "f").await;
        (found, world.elapsed(), format!("{:?}", trace.digest()))
    }
    let first = run(1).await;
    assert!(first.0.contains(&7) && first.0.contains(&0));
    assert_ne!(first.0, run(2).await.0);
    assert_eq!(first, run(1).await);
}
