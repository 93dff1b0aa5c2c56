//! Both disks keep the same contract, and the real one keeps others out of its folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::conformance::{self, Place};
use super::simulated::{SimDisk, SimDiskConfig};
use super::{Disk, DiskError, Open, OsDisk};
use crate::env::SplitMix64;
use crate::env::simulated::{SimWorldClock, Trace};
use crate::ids::{Incarnation, NodeId};

struct Real(tempfile::TempDir);

#[async_trait]
impl Place for Real {
    async fn open(&self) -> Arc<dyn Disk> {
        Arc::new(OsDisk::open(self.0.path().join("disk")).await.unwrap())
    }
}

/// Every opening is after a power loss.
struct Simulated(SimDisk);

#[async_trait]
impl Place for Simulated {
    async fn open(&self) -> Arc<dyn Disk> {
        self.0.power_loss();
        self.0.mount(Incarnation(1))
    }
}

#[tokio::test]
async fn the_real_disk_conforms() {
    conformance::all(&|| Box::new(Real(tempfile::tempdir().unwrap()))).await;
}

#[tokio::test(start_paused = true)]
async fn the_simulated_disk_conforms() {
    let (world, rng) = (SimWorldClock::new(), SplitMix64::new(1));
    for sector_bytes in [512, 4096] {
        let config = SimDiskConfig { sector_bytes, ..SimDiskConfig::default() };
        let new = || SimDisk::new(NodeId(1), &world, &rng, Trace::default(), config);
        conformance::all(&|| Box::new(Simulated(new()))).await;
    }
}

#[tokio::test]
async fn a_folder_is_held_by_one_disk_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = OsDisk::open(folder.path()).await.unwrap();
    let Err(DiskError::InUse { path, detail }) = OsDisk::open(folder.path()).await else {
        panic!("two disks hold one folder");
    };
    assert_eq!(Path::new(&path), folder.path());
    assert!(detail.contains(&std::process::id().to_string()), "{detail}");
    assert_eq!(first.list("").await.unwrap(), [""; 0], "the lock is not a file of the disk");
    let refused = first.open("LOCK", Open::Any).await.map(drop);
    assert_eq!(refused, Err(DiskError::BadPath("LOCK".into())));
    // Open files hold the folder, too: whoever writes to them is not dead yet.
    let file = first.open("f", Open::New).await.unwrap();
    drop(first);
    assert!(matches!(OsDisk::open(folder.path()).await, Err(DiskError::InUse { .. })));
    drop(file);
    OsDisk::open(folder.path()).await.unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let disk = OsDisk::open(folder.path()).await.unwrap();
    disk.open("f", Open::New).await.unwrap();
    let Err(e) = OsDisk::open(folder.path().join("f/disk")).await else {
        panic!("a file is no folder");
    };
    assert!(e.to_string().contains("f/disk: create failed"), "{e}");
}

/// `/dev/full` says that it is full to whoever writes.
#[tokio::test]
async fn a_full_device_is_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let Some(full) = Some(PathBuf::from("/dev/full")).filter(|path| path.exists()) else {
        eprintln!("skipped: this machine has no /dev/full");
        return;
    };
    std::os::unix::fs::symlink(full, folder.path().join("full")).unwrap();
    let disk = OsDisk::open(folder.path()).await.unwrap();
    let file = disk.open("full", Open::Existing).await.unwrap();
    let written = file.write_at(0, Bytes::from_static(b"x")).await;
    assert_eq!(written, Err(DiskError::Full { path: "full".into() }));
}
