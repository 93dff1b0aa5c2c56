//! How segments come to be: a spare file with its space, then a header, then a name.
//!
//! A file has the name of a segment only once its header is durable, so a segment without a valid
//! header is damage, never a crash. In the same way it has the name of a spare only once its space
//! is durable: a sync that failed leaves a file that looks whole and is not on the disk, and that a
//! later sync may call clean without writing anything.

use bytes::{Bytes, BytesMut};

use super::format::{SEGMENT_HEADER, SegmentHeader};
use super::state::{Segment, Spare, path, segment_name};
use crate::storage::disk::{Disk, DiskError, Open};

const SPARE: &str = "spare-";
const UNREADY: &str = "unready-";

/// The number in the file name of a spare.
pub(super) fn spare_number(name: &str) -> Option<u64> {
    name.strip_prefix(SPARE)?.parse().ok()
}

/// Whether this is what an interrupted [`make_spare`] left.
pub(super) fn is_unready(name: &str) -> bool {
    name.starts_with(UNREADY)
}

/// Makes an empty file of `bytes` bytes. Nothing is left of it when the disk is full.
pub(super) async fn make_spare(
    disk: &dyn Disk,
    dir: &str,
    number: u64,
    bytes: u64,
) -> Result<Spare, DiskError> {
    let unready = path(dir, &format!("{UNREADY}{number}"));
    let file = disk.open(&unready, Open::New).await?;
    if let Err(e) = file.allocate(bytes).await {
        if matches!(e, DiskError::Full { .. }) {
            disk.remove(&unready).await?;
        }
        return Err(e);
    }
    file.sync().await?;
    let path = path(dir, &format!("{SPARE}{number}"));
    disk.rename(&unready, &path).await?;
    Ok(Spare { path, bytes, file })
}

/// Makes a segment of a spare.
pub(super) async fn make_segment(
    disk: &dyn Disk,
    dir: &str,
    spare: &Spare,
    header: SegmentHeader,
) -> Result<Segment, DiskError> {
    let name = path(dir, &segment_name(header.number));
    spare.file.write_and_sync(0, first_block(&header)).await?;
    disk.rename(&spare.path, &name).await?;
    disk.sync_dir(dir).await?;
    let (end, file) = (SEGMENT_HEADER as u64, Some(spare.file.clone()));
    Ok(Segment { header, end, marks: Vec::new(), file })
}

/// The header, and zeros over what an earlier attempt may have left behind it.
fn first_block(header: &SegmentHeader) -> Bytes {
    const BLOCK: u64 = 4096;
    let mut block = BytesMut::from(&*header.encode());
    block.resize(header.bytes.min(BLOCK) as usize, 0);
    block.freeze()
}
