//! The records file: one frame a record.
use super::header::DIGEST_LEN;
use super::{array, u16_at, u32_at};
use crate::StoreError;
use crate::record::{ENCODING, Record, record_name};
use std::ops::Range;
use std::path::Path;

/// kind, version, flags, reserved: u16 each; length, reserved: u32 each; checksum.
const FRAME_HEADER: usize = 16 + DIGEST_LEN;
const FLAG_REQUIRED: u16 = 1;

/// One record as it is in the file.
#[derive(Debug, Clone)]
pub(crate) struct RawRecord {
    pub(crate) kind: u16,
    pub(crate) version: u16,
    pub(crate) required: bool,
    /// Where in the body the payload is.
    pub(crate) payload: Range<usize>,
}

/// Appends a record's frame to the body of a records file.
pub(crate) fn append_record<T: Record>(body: &mut Vec<u8>, record: &T) -> Result<(), StoreError> {
    let encode = |reason: String| StoreError::Encode { name: T::NAME, reason };
    let payload = wincode::config::serialize(record, ENCODING).map_err(|e| encode(e.to_string()))?;
    let length = u32::try_from(payload.len()).map_err(|_| encode("longer than 4 GiB".into()))?;
    let mut head = [0; 16];
    head[0..2].copy_from_slice(&T::KIND.to_le_bytes());
    head[2..4].copy_from_slice(&T::VERSION.to_le_bytes());
    head[4..6].copy_from_slice(&(if T::REQUIRED { FLAG_REQUIRED } else { 0 }).to_le_bytes());
    head[8..12].copy_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&head);
    body.extend_from_slice(&checksum(&head, &payload));
    body.extend_from_slice(&payload);
    Ok(())
}

/// Finds the records of a body and checks each one's checksum.
pub(crate) fn split_records(body: &[u8], path: &Path) -> Result<Vec<RawRecord>, StoreError> {
    let mut records = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let bad = |reason: &str| StoreError::corrupt(path, format!("record {}: {reason}", records.len()));
        if body.len() - at < FRAME_HEADER {
            return Err(bad("cut short"));
        }
        let head: [u8; 16] = array(body, at);
        let start = at + FRAME_HEADER;
        let length = usize::try_from(u32_at(&head, 8)).unwrap_or(usize::MAX);
        let end = start.checked_add(length).filter(|end| *end <= body.len());
        let payload = start..end.ok_or_else(|| bad("longer than its file"))?;
        if checksum(&head, &body[payload.clone()]) != array(body, at + 16) {
            return Err(bad("wrong checksum"));
        }
        let flags = u16_at(&head, 4);
        if flags & !FLAG_REQUIRED != 0 || head[6..8] != [0; 2] || head[12..16] != [0; 4] {
            return Err(bad("unknown flags"));
        }
        at = payload.end;
        records.push(RawRecord {
            kind: u16_at(&head, 0),
            version: u16_at(&head, 2),
            required: flags & FLAG_REQUIRED != 0,
            payload,
        });
    }
    Ok(records)
}

/// Decodes a payload.
pub(crate) fn decode_record<T: Record>(payload: &[u8], path: &Path) -> Result<T, StoreError> {
    wincode::config::deserialize_exact(payload, ENCODING)
        .map_err(|e| StoreError::corrupt(path, format!("a record {} cannot be decoded: {e}", T::NAME)))
}

impl RawRecord {
    /// Refuses a record that the image is of no use without and that this library does not know.
    pub(crate) fn check_known(&self, path: &Path) -> Result<(), StoreError> {
        if self.required && record_name(self.kind, self.version).is_none() {
            return Err(StoreError::UnknownRecord {
                path: path.to_owned(),
                kind: self.kind,
                version: self.version,
            });
        }
        Ok(())
    }
}

fn checksum(head: &[u8], payload: &[u8]) -> [u8; DIGEST_LEN] {
    *blake3::Hasher::new().update(head).update(payload).finalize().as_bytes()
}
