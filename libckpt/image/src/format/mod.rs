//! The bytes of a store's files and of an exported checkpoint, as `docs/image-format.md` describes them.
//!
//! Whoever changes a file of this module changes that page: it carries the hash of their source, which a test checks.
mod body;
mod header;
mod manifest;
mod pack;
mod pages;
mod records;
mod stream;

pub use header::Role;
pub use manifest::{FileRef, Kind, Manifest, Stats};

pub(crate) use body::{unwrap, wrap};
pub(crate) use header::{HEADER_LEN, Header, StoreId, check_header, encode_header, seal, unseal};
pub(crate) use manifest::{decode_manifest, decode_manifest_body, encode_manifest, encode_manifest_body};
pub(crate) use pack::{
    BLOCK_LEN, BLOCK_PAGES, BlockCodec, BlockEntry, HASH_LEN, PackTable, PageHash, UNKNOWN_HASH, check_block,
    compress_block, decode_trailer, hash_key, hash_page, trailer_len,
};
pub(crate) use pages::{PagesFile, decode_pages, decode_pages_body, encode_pages, encode_pages_body};
pub(crate) use records::{RawRecord, append_record, decode_record, split_records};

pub(crate) use stream::{FrameReader, FrameTag, FrameWriter, STREAM};

/// The `N` bytes at `at`; the caller has checked the length.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}
