//! Opening: what is on the disk is read, judged, replayed, and only then changed.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::format::{Kind, Records, SegmentHeader};
use super::scan::{Scanned, Tail, scan};
use super::segment::{is_unready, make_segment, make_spare, spare_number};
use super::state::{Segment, Spare, path, segment_name, segment_number};
use super::{Lsn, Replay, WalConfig, WalError};
use crate::env::Env;
use crate::storage::disk::{Disk, Open, sync_names};

/// A log as it was found.
pub(super) struct Recovered {
    /// Oldest first, at least one.
    pub(super) segments: VecDeque<Segment>,
    pub(super) next: Lsn,
    pub(super) chain: u32,
    pub(super) stock: VecDeque<Spare>,
    pub(super) last_spare: u64,
    /// The log ends with a seal.
    pub(super) sealed: bool,
}

/// The last segment, with what has to be written again.
struct Newest {
    scanned: Scanned,
    bytes: Bytes,
}

pub(super) async fn recover(
    env: &Env,
    dir: &str,
    config: &WalConfig,
    replay: &mut dyn Replay,
) -> Result<Recovered, WalError> {
    let disk = &*env.disk;
    let names = disk.list(dir).await?;
    let numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    let mut segments = VecDeque::new();
    let mut newest: Option<Newest> = None;
    let mut sealed = false;
    for number in numbers {
        let found =
            read_segment(disk, dir, number, newest.as_ref().map(|n| (&n.scanned, &segments)));
        let (header, file, bytes) = found.await?;
        let mut segment = Segment { header, end: 0, marks: Vec::new(), file: Some(file) };
        let scanned = scan(&header, &bytes, |found| {
            segment.mark(found.header.first, found.offset as u64);
            sealed = found.header.kind == Kind::Seal;
            if found.header.kind != Kind::Records {
                return Ok(());
            }
            let records = Records::new(&bytes[found.body.clone()], found.header.count);
            for (lsn, record) in (found.header.first.0..).map(Lsn).zip(records) {
                // Copied, because a slice would keep the whole segment in memory.
                let record = Bytes::copy_from_slice(record);
                let refused = |reason| WalError::Refused { lsn, reason };
                replay.record(lsn, record).map_err(refused)?;
            }
            Ok::<(), WalError>(())
        })?;
        segment.end = scanned.end as u64;
        if let Some(before) = segments.back_mut() {
            Segment::close(before);
        }
        segments.push_back(segment);
        newest = Some(Newest { scanned, bytes });
    }
    if let (Some(newest), Some(segment)) = (&newest, segments.back()) {
        judge_tail(newest, &path(dir, &segment_name(segment.header.number)))?;
    }
    // All is well or can be made so: from here on the disk is changed.
    let (mut stock, last_spare) = spares(disk, dir, &names, config.segment_bytes).await?;
    let (next, chain) = if let (Some(newest), Some(segment)) = (newest, segments.back()) {
        write_again(&newest, segment).await?;
        sync_names(disk, dir).await?;
        (newest.scanned.next, newest.scanned.chain)
    } else {
        disk.create_dir(dir).await?;
        sync_names(disk, dir).await?;
        let salt = env.rng.next_u64();
        let spare = match stock.pop_front() {
            Some(spare) => spare,
            None => make_spare(disk, dir, last_spare + 1, config.segment_bytes).await?,
        };
        // The first segment's chain is random too: segments of two logs never continue each other.
        let (bytes, chain) = (spare.bytes, (salt >> 32) as u32);
        let header = SegmentHeader { number: 1, first: Lsn(1), bytes, salt, chain };
        segments.push_back(make_segment(disk, dir, &spare, header).await?);
        (Lsn(1), chain)
    };
    Ok(Recovered { segments, next, chain, stock, last_spare: last_spare + 1, sealed })
}

/// Reads a segment, and checks that it continues those before.
async fn read_segment(
    disk: &dyn Disk,
    dir: &str,
    number: u64,
    before: Option<(&Scanned, &VecDeque<Segment>)>,
) -> Result<(SegmentHeader, Arc<dyn crate::storage::disk::File>, Bytes), WalError> {
    let name = path(dir, &segment_name(number));
    let previous = before.and_then(|(scanned, all)| Some((scanned, all.back()?.header.number)));
    if let Some((_, previous)) = previous.filter(|(_, previous)| previous + 1 != number) {
        let missing = path(dir, &segment_name(previous + 1));
        return Err(WalError::corrupt(&missing, 0, &format!("it is missing, and {name} is there")));
    }
    let file = disk.open(&name, Open::Existing).await?;
    let bytes = file.read_at(0, file.len().await? as usize).await?;
    let header = SegmentHeader::decode(&bytes).map_err(|why| WalError::corrupt(&name, 0, &why))?;
    if header.number != number {
        let what = format!("it says that it is segment {}", header.number);
        return Err(WalError::corrupt(&name, 0, &what));
    }
    if header.bytes != bytes.len() as u64 {
        let what = format!("it was made {} bytes long and has {}", header.bytes, bytes.len());
        return Err(WalError::corrupt(&name, bytes.len() as u64, &what));
    }
    if let Some((scanned, previous)) = previous
        && (scanned.next, scanned.chain) != (header.first, header.chain)
    {
        // Records were written to a new segment only after those before were durable.
        let what = format!(
            "record {} should follow here, and {name} begins with record {} of the same or of \
             another log",
            scanned.next.0, header.first.0
        );
        let damaged = path(dir, &segment_name(previous));
        return Err(WalError::corrupt(&damaged, scanned.end as u64, &what));
    }
    Ok((header, file, bytes))
}

fn judge_tail(newest: &Newest, name: &str) -> Result<(), WalError> {
    if let Tail::Damaged(proof) = newest.scanned.tail {
        let what = format!(
            "record {} should follow here, and was durable, as the frame at byte {proof} says",
            newest.scanned.next.0
        );
        return Err(WalError::corrupt(name, newest.scanned.end as u64, &what));
    }
    Ok(())
}

/// Makes what was found durable, and cuts a torn tail.
///
/// The last group is written once more before it is synced: it may be what a failed sync left in
/// the cache of the system, called clean, so that a sync alone would do nothing (Rebello et al.
/// 2020).
async fn write_again(newest: &Newest, segment: &Segment) -> Result<(), WalError> {
    let Some(file) = &segment.file else { return Ok(()) };
    let Scanned { end, unproven, ref tail, .. } = newest.scanned;
    let mut again = BytesMut::from(&newest.bytes[unproven..end]);
    if let Tail::Torn(torn) = tail {
        crate::sometimes!("torn-tail-cut");
        tracing::info!(segment = segment.header.number, end, torn, "a torn write is cut off");
        again.resize(torn - unproven, 0);
    }
    if again.is_empty() {
        return Ok(file.sync().await?);
    }
    Ok(file.write_and_sync(unproven as u64, again.freeze()).await?)
}

/// Takes the spares of the last opening, and removes those that are not ready or too small now.
async fn spares(
    disk: &dyn Disk,
    dir: &str,
    names: &[String],
    bytes: u64,
) -> Result<(VecDeque<Spare>, u64), WalError> {
    let (mut stock, mut last) = (VecDeque::new(), 0);
    for name in names {
        if is_unready(name) {
            disk.remove(&path(dir, name)).await?;
        }
        let Some(number) = spare_number(name) else { continue };
        last = last.max(number);
        let path = path(dir, name);
        let file = disk.open(&path, Open::Existing).await?;
        let there = file.len().await?;
        if there >= bytes && stock.len() < super::keeper::STOCK {
            stock.push_back(Spare { path, bytes: there, file });
        } else {
            disk.remove(&path).await?;
        }
    }
    Ok((stock, last))
}
