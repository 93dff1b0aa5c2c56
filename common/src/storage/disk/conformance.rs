//! What every [`Disk`] must do, as tests for your own: a small function per claim, and [`all`].

#![allow(clippy::unwrap_used, reason = "these are tests; an error is a failure")]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Disk, DiskError, Open};

/// A place where a disk is, that can be opened again and again.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the disk, as after a restart. All that an earlier opening gave was dropped.
    async fn open(&self) -> Arc<dyn Disk>;
}

/// Makes a new, empty place for each claim.
pub type NewPlace<'a> = &'a (dyn Fn() -> Box<dyn Place> + Send + Sync);

/// Runs every claim, each in a place of its own.
///
/// # Panics
/// When a claim does not hold.
pub async fn all(new: NewPlace<'_>) {
    a_file_reads_what_was_written(&*new()).await;
    a_gap_reads_as_zeros(&*new()).await;
    a_read_ends_with_the_file(&*new()).await;
    the_length_is_set_and_space_reserved(&*new()).await;
    opening_honours_what_must_exist(&*new()).await;
    folders_list_their_names_in_order(&*new()).await;
    a_rename_replaces(&*new()).await;
    a_removed_file_is_gone(&*new()).await;
    an_open_file_outlives_its_name(&*new()).await;
    paths_lead_nowhere_else(&*new()).await;
    what_was_synced_survives_a_restart(&*new()).await;
    writes_and_reads_run_beside_each_other(&*new()).await;
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Over sector bounds, over old content, and when nothing is synced.
pub async fn a_file_reads_what_was_written(place: &dyn Place) {
    let disk = place.open().await;
    let file = disk.open("f", Open::New).await.unwrap();
    assert!(file.is_empty().await.unwrap());
    let long = Bytes::from((0..20_000_u32).map(|n| n as u8).collect::<Vec<_>>());
    file.write_at(0, long.clone()).await.unwrap();
    file.write_at(5_000, bytes("in the middle")).await.unwrap();
    file.write_and_sync(20_000, bytes("at the end")).await.unwrap();
    file.write_at(7, Bytes::new()).await.unwrap();
    let mut expected = long.to_vec();
    expected[5_000..5_013].copy_from_slice(b"in the middle");
    expected.extend_from_slice(b"at the end");
    assert_eq!(file.len().await.unwrap(), 20_010);
    assert_eq!(file.read_at(0, 20_010).await.unwrap(), expected);
    assert_eq!(file.read_at(4_095, 1_000).await.unwrap(), expected[4_095..5_095]);
    let again = disk.open("f", Open::Existing).await.unwrap();
    assert_eq!(again.read_at(20_000, 10).await.unwrap(), "at the end");
}

/// What lies between the old end and a write behind it.
pub async fn a_gap_reads_as_zeros(place: &dyn Place) {
    let file = place.open().await.open("f", Open::New).await.unwrap();
    file.write_at(10_000, bytes("x")).await.unwrap();
    assert_eq!(file.read_at(0, 10_000).await.unwrap(), vec![0; 10_000]);
    file.write_at(20_000, Bytes::new()).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 10_001, "writing nothing extends nothing");
}

/// Fewer bytes than asked for, or none.
pub async fn a_read_ends_with_the_file(place: &dyn Place) {
    let file = place.open().await.open("f", Open::New).await.unwrap();
    file.write_at(0, bytes("short")).await.unwrap();
    assert_eq!(file.read_at(3, 100).await.unwrap(), "rt");
    assert_eq!(file.read_at(5, 100).await.unwrap(), "");
    assert_eq!(file.read_at(1 << 40, usize::MAX).await.unwrap(), "");
    assert_eq!(file.read_at(0, 0).await.unwrap(), "");
}

/// Growing shows zeros, also over bytes that were cut off before.
pub async fn the_length_is_set_and_space_reserved(place: &dyn Place) {
    let file = place.open().await.open("f", Open::New).await.unwrap();
    file.write_at(0, bytes("0123456789")).await.unwrap();
    file.set_len(4).await.unwrap();
    assert_eq!(file.read_at(0, 100).await.unwrap(), "0123");
    file.set_len(6).await.unwrap();
    assert_eq!(file.read_at(0, 100).await.unwrap(), "0123\0\0");
    file.allocate(10_000).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 10_000);
    assert_eq!(file.read_at(4, 10_000).await.unwrap(), vec![0; 9_996]);
    assert_eq!(file.read_at(0, 4).await.unwrap(), "0123", "reserving keeps what is there");
    file.allocate(100).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 10_000, "reserving never shortens");
}

/// And says which file, when it does not.
pub async fn opening_honours_what_must_exist(place: &dyn Place) {
    let disk = place.open().await;
    let missing = disk.open("f", Open::Existing).await.map(drop);
    assert_eq!(missing, Err(DiskError::NotFound("f".into())));
    disk.open("f", Open::Any).await.unwrap().write_at(0, bytes("x")).await.unwrap();
    let there = disk.open("f", Open::New).await.map(drop);
    assert_eq!(there, Err(DiskError::Exists("f".into())));
    assert_eq!(disk.open("f", Open::Any).await.unwrap().len().await.unwrap(), 1);
    let nowhere = disk.open("d/f", Open::New).await.map(drop);
    assert!(matches!(nowhere, Err(DiskError::NotFound(_))), "{nowhere:?}");
}

/// Files by their name, folders with a slash, a missing folder as an empty one.
pub async fn folders_list_their_names_in_order(place: &dyn Place) {
    let disk = place.open().await;
    assert_eq!(disk.list("").await.unwrap(), [""; 0]);
    assert_eq!(disk.list("none").await.unwrap(), [""; 0]);
    disk.create_dir("d/e").await.unwrap();
    disk.create_dir("d/e").await.unwrap();
    for path in ["b", "a", "d/c", "d/e/x"] {
        disk.open(path, Open::New).await.unwrap();
    }
    assert_eq!(disk.list("").await.unwrap(), ["a", "b", "d/"]);
    assert_eq!(disk.list("d").await.unwrap(), ["c", "e/"]);
    disk.sync_dir("d").await.unwrap();
    disk.remove_dir("d").await.unwrap();
    assert_eq!(disk.list("").await.unwrap(), ["a", "b"]);
    assert!(matches!(disk.sync_dir("d").await, Err(DiskError::NotFound(_))));
}

/// Another file of that name is gone at once.
pub async fn a_rename_replaces(place: &dyn Place) {
    let disk = place.open().await;
    disk.open("new", Open::New).await.unwrap().write_at(0, bytes("new")).await.unwrap();
    disk.open("old", Open::New).await.unwrap().write_at(0, bytes("former")).await.unwrap();
    disk.rename("new", "old").await.unwrap();
    assert_eq!(disk.list("").await.unwrap(), ["old"]);
    let file = disk.open("old", Open::Existing).await.unwrap();
    assert_eq!(file.read_at(0, 100).await.unwrap(), "new");
    assert!(matches!(disk.rename("new", "x").await, Err(DiskError::NotFound(_))));
}

/// And cannot be removed twice.
pub async fn a_removed_file_is_gone(place: &dyn Place) {
    let disk = place.open().await;
    disk.open("f", Open::New).await.unwrap();
    disk.remove("f").await.unwrap();
    assert!(matches!(disk.remove("f").await, Err(DiskError::NotFound(_))));
    assert!(matches!(disk.open("f", Open::Existing).await, Err(DiskError::NotFound(_))));
    assert!(disk.open("f", Open::New).await.unwrap().is_empty().await.unwrap());
}

/// A reader goes on while its file is removed or replaced.
pub async fn an_open_file_outlives_its_name(place: &dyn Place) {
    let disk = place.open().await;
    let file = disk.open("f", Open::New).await.unwrap();
    file.write_at(0, bytes("still there")).await.unwrap();
    disk.remove("f").await.unwrap();
    disk.open("f", Open::New).await.unwrap().write_at(0, bytes("another")).await.unwrap();
    assert_eq!(file.read_at(0, 100).await.unwrap(), "still there");
}

/// Neither upwards nor to the root of the machine.
pub async fn paths_lead_nowhere_else(place: &dyn Place) {
    let disk = place.open().await;
    for path in ["../f", "/f", "a/../../f", "./f", "a//b", "a/", "nul\0", ".."] {
        let opened = disk.open(path, Open::Any).await.map(drop);
        assert_eq!(opened, Err(DiskError::BadPath(path.into())), "{path:?}");
        assert_eq!(disk.create_dir(path).await, Err(DiskError::BadPath(path.into())), "{path:?}");
        assert_eq!(disk.remove(path).await, Err(DiskError::BadPath(path.into())), "{path:?}");
        assert_eq!(disk.remove_dir(path).await, Err(DiskError::BadPath(path.into())), "{path:?}");
        assert_eq!(disk.sync_dir(path).await, Err(DiskError::BadPath(path.into())), "{path:?}");
        assert_eq!(disk.list(path).await, Err(DiskError::BadPath(path.into())), "{path:?}");
    }
    disk.open("f", Open::New).await.unwrap();
    assert_eq!(disk.rename("f", "../f").await, Err(DiskError::BadPath("../f".into())));
    assert_eq!(disk.rename("../f", "f").await, Err(DiskError::BadPath("../f".into())));
    assert_eq!(disk.remove_dir("").await, Err(DiskError::BadPath(String::new())));
    assert!(matches!(disk.open("", Open::Any).await, Err(DiskError::BadPath(_))));
}

/// Bytes with the file's sync, names with the folder's.
pub async fn what_was_synced_survives_a_restart(place: &dyn Place) {
    {
        let disk = place.open().await;
        disk.create_dir("d").await.unwrap();
        disk.sync_dir("").await.unwrap();
        let file = disk.open("d/f", Open::New).await.unwrap();
        file.write_and_sync(0, bytes("kept")).await.unwrap();
        disk.sync_dir("d").await.unwrap();
    }
    let disk = place.open().await;
    assert_eq!(disk.list("d").await.unwrap(), ["f"]);
    let file = disk.open("d/f", Open::Existing).await.unwrap();
    assert_eq!(file.read_at(0, 100).await.unwrap(), "kept");
}

/// Neither loses the other's bytes.
pub async fn writes_and_reads_run_beside_each_other(place: &dyn Place) {
    let disk = place.open().await;
    let file = disk.open("f", Open::New).await.unwrap();
    let writes = (0..32_u8).map(|n| {
        let file = file.clone();
        async move {
            let at = u64::from(n) * 1_000;
            file.write_and_sync(at, Bytes::from(vec![n; 1_000])).await.unwrap();
            assert_eq!(file.read_at(at, 1_000).await.unwrap(), vec![n; 1_000]);
        }
    });
    futures::future::join_all(writes).await;
    for n in 0..32_u8 {
        assert_eq!(file.read_at(u64::from(n) * 1_000, 1_000).await.unwrap(), vec![n; 1_000]);
    }
}
