//! A stream as a checkpoint.
use super::dir::data_name;
use super::export::STREAM_PACK;
use super::open::Store;
use super::pack_file::PackFile;
use super::staging::Staging;
use super::writer::check_job;
use crate::format::{
    BlockEntry, FileRef, FrameReader, FrameTag, Kind, Manifest, PagesFile, Role, STREAM, check_block,
    decode_manifest_body, decode_pages_body, split_records,
};
use crate::{CheckpointId, StoreError};
use std::io::{BufReader, Read};
use std::path::Path;

/// What a stream is turned into, piece by piece.
struct Import<'a> {
    staging: &'a Staging,
    operation: &'a CheckpointId,
    manifest: Option<Manifest>,
    records: Vec<u8>,
    pages: Vec<u8>,
    pack: Option<PackFile>,
    /// Pages of each block.
    blocks: Vec<u16>,
}

impl Store {
    /// Reads what [`Store::export`] wrote. The checkpoint keeps its id, or gets a new one when the store has that id already.
    /// Nothing is visible before the whole stream has been read and checked.
    ///
    /// # Errors
    /// The stream is damaged or of a newer version; the store cannot be written.
    pub fn import(&self, input: impl Read) -> Result<CheckpointId, StoreError> {
        let mut frames = FrameReader::new(BufReader::with_capacity(1 << 18, input))?;
        let lock = self.lock_exclusive()?;
        if let Err(e) = self.collect_if_needed(&lock) {
            tracing::warn!("what a killed writer left behind stays for now: {e}");
        }
        let operation = self.new_id(&lock)?;
        let mut staging = Staging::create(&self.layout, &operation, None, "import")?;
        drop(lock);
        let mut import = Import {
            staging: &staging,
            operation: &operation,
            manifest: None,
            records: Vec::new(),
            pages: Vec::new(),
            pack: None,
            blocks: Vec::new(),
        };
        let mut payload = Vec::new();
        while let Some(tag) = frames.next(&mut payload)? {
            import.take(tag, &payload)?;
        }
        let (mut manifest, records, index, pack) = import.finish()?;
        staging.write_data(&mut manifest, &operation, &records, &index, pack)?;
        let lock = self.lock_exclusive()?;
        if self.layout.manifest(&manifest.id).exists() {
            manifest.id = operation;
        }
        staging.write_manifest(&manifest)?;
        staging.publish(&lock, &manifest)?;
        Ok(manifest.id)
    }
}

impl Import<'_> {
    fn take(&mut self, tag: FrameTag, payload: &[u8]) -> Result<(), StoreError> {
        let stream = Path::new(STREAM);
        match tag {
            FrameTag::Manifest if self.manifest.is_none() => {
                let manifest = decode_manifest_body(payload, stream)?;
                check_job(&manifest.job)?;
                self.manifest = Some(manifest);
            }
            FrameTag::Records => self.records.extend_from_slice(payload),
            FrameTag::Pages => self.pages.extend_from_slice(payload),
            FrameTag::Block => self.block(payload)?,
            FrameTag::Manifest | FrameTag::End => {
                return Err(StoreError::corrupt(stream, "a second manifest"));
            }
        }
        Ok(())
    }

    fn block(&mut self, payload: &[u8]) -> Result<(), StoreError> {
        let bad = |reason: &str| StoreError::corrupt(Path::new(STREAM), format!("block: {reason}"));
        let entry = BlockEntry::decode(payload).map_err(bad)?;
        let stored = &payload[entry.encode().len()..];
        if stored.len() != entry.stored_len() {
            return Err(bad("of another length than it says"));
        }
        check_block(&entry, stored).map_err(|reason| bad(&reason))?;
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(PackFile::create(
                self.staging.path(),
                data_name(self.operation, Role::Pack),
                self.staging.store(),
                self.staging.operation(),
            )?),
        };
        pack.append(entry, stored, &[])?;
        self.blocks.push(entry.pages);
        Ok(())
    }

    fn finish(self) -> Result<(Manifest, Vec<u8>, PagesFile, Option<FileRef>), StoreError> {
        let stream = Path::new(STREAM);
        let bad = |reason: &str| StoreError::corrupt(stream, reason);
        let mut manifest = self.manifest.ok_or_else(|| bad("it has no manifest"))?;
        (manifest.kind, manifest.parent) = (Kind::Full, None);
        split_records(&self.records, stream)?;
        let mut index = decode_pages_body(&self.pages, stream)?;
        if index.packs != [STREAM_PACK] {
            return Err(bad("page index: it names packs that a stream has not"));
        }
        for (_, e) in index.map.iter() {
            let exists = |slot: u64| {
                let pages = usize::try_from(slot / 64).ok().and_then(|b| self.blocks.get(b));
                pages.is_some_and(|n| slot % 64 < u64::from(*n))
            };
            if !e.value.slots().all(|(_, slot)| (slot..slot + e.count).all(exists)) {
                return Err(bad("page index: it names pages that the stream has not"));
            }
        }
        let pack = self.pack.map(PackFile::finish).transpose()?;
        index.packs = pack.iter().map(|p| p.name.clone()).collect();
        Ok((manifest, self.records, index, pack))
    }
}
