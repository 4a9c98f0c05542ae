//! A checkpoint as one stream.
use super::open::Store;
use super::repack::{Needed, copy};
use crate::format::{
    FrameTag, FrameWriter, Kind, Manifest, PagesFile, STREAM, encode_manifest_body, encode_pages_body,
};
use crate::map::ExtentMap;
use crate::{CheckpointId, StoreError};
use std::io::{BufWriter, Write};
use std::path::Path;

/// What the page index of a stream calls the blocks before it.
pub(super) const STREAM_PACK: &str = "pack";

impl Store {
    /// Writes a checkpoint, with all that it needs of its chain, as one full checkpoint. `out` is written from beginning to end,
    /// so a pipe will do.
    ///
    /// # Errors
    /// [`StoreError::NoCheckpoint`]; a file is damaged; `out` cannot be written.
    pub fn export(&self, id: &CheckpointId, out: impl Write) -> Result<(), StoreError> {
        let image = self.following(id, || self.open_image(id))?;
        let writing = || StoreError::writing(Path::new(STREAM), "write");
        let out = BufWriter::with_capacity(1 << 18, out);
        let mut frames = FrameWriter::new(out, self.layout.id, id.as_str()).map_err(writing())?;
        let manifest =
            Manifest { kind: Kind::Full, parent: None, files: Vec::new(), ..image.manifest().clone() };
        let manifest = encode_manifest_body(&manifest)?;
        frames.frame(FrameTag::Manifest, &[&manifest]).map_err(writing())?;
        frames.pieces(FrameTag::Records, image.records_body()).map_err(writing())?;
        let mut needed = Needed::default();
        image.map().iter().for_each(|(_, e)| needed.add(&e));
        let mut blocks = 0;
        let moved = copy(
            &needed,
            self.options.level,
            |pack| image.pack(pack),
            |entry, stored, _| {
                frames.frame(FrameTag::Block, &[&entry.encode(), stored]).map_err(writing())?;
                blocks += 1;
                Ok(blocks - 1)
            },
        )?;
        let mut map = ExtentMap::default();
        for (space, e) in image.map().iter() {
            moved.apply(&e, 0, |first, count, place| map.insert(space, first, count, place));
        }
        let index = PagesFile { packs: vec![STREAM_PACK.to_owned()], live: None, map };
        frames.pieces(FrameTag::Pages, &encode_pages_body(&index)).map_err(writing())?;
        frames.finish().map_err(writing())
    }
}
