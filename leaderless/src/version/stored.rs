//! The bytes of a container in the engine, and of a claim beside it.
//!
//! ```text
//! version: u8 | body (codec, without frame) | crc32c of all before: u32, little-endian
//! ```

use common::codec;

use super::Container;

const VERSION: u8 = 1;

/// Encodes a container.
pub(crate) fn encode_container(container: &Container) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&codec::encode_body(container));
    let checksum = codec::checksum(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// Decodes a container. An error says what is wrong with the bytes: they are damaged, which is
/// another thing than not being there.
pub(crate) fn decode_container(bytes: &[u8]) -> Result<Container, String> {
    let (checked, checksum) = bytes.split_last_chunk::<4>().ok_or("it is too short")?;
    if codec::checksum(checked) != u32::from_le_bytes(*checksum) {
        return Err("its checksum does not match".into());
    }
    match checked.split_first() {
        Some((&VERSION, body)) => codec::decode_body(body).map_err(|e| e.to_string()),
        Some((other, _)) => Err(format!("it has version {other}, this build reads {VERSION}")),
        None => Err("it is too short".into()),
    }
}
