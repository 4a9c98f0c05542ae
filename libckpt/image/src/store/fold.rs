//! Merging: taking the parents' pages into a checkpoint, by a new page index over the same packs.
use super::chain::{Delta, Layer, PackSet, resolve};
use super::open::Store;
use crate::format::{FileRef, Kind, Manifest, PagesFile, Role};
use crate::{CheckpointId, StoreError};

/// How far down a checkpoint takes its parents in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Its parent only; the parent's parent becomes its own.
    Parent,
    /// All of them.
    Full,
}

impl Store {
    /// Makes a checkpoint a full one, under the same id. Its contents stay the same, incremental checkpoints on it
    /// stay valid, and its former parents may be removed. Readers are not disturbed, nor is the job.
    ///
    /// # Errors
    /// [`StoreError::NoCheckpoint`]; a file of its chain is damaged; the store cannot be written. The checkpoint is then as
    /// it was.
    pub fn merge(&self, id: &CheckpointId) -> Result<(), StoreError> {
        self.fold(id, Depth::Full)?;
        self.tidy(&self.manifest(id)?.job);
        Ok(())
    }

    /// Takes parents in.
    pub(super) fn fold(&self, id: &CheckpointId, depth: Depth) -> Result<(), StoreError> {
        if self.manifest(id)?.kind == Kind::Full {
            return Ok(());
        }
        loop {
            let (operation, mut staging) = self.stage("merge")?;
            let mut layers = self.following(id, || match depth {
                Depth::Parent => self.layer_with_parent(id),
                Depth::Full => self.layers(id),
            })?;
            if layers.len() < 2 {
                // Someone else has made it a full one.
                return Ok(());
            }
            let (packs, delta) = resolve(&mut layers);
            let (packs, index) = index_of(&packs, &delta);
            let [bottom, .., top] = layers.as_slice() else { return Ok(()) };
            let pages = staging.write_pages(&operation, &index)?;
            let records = top.manifest.file(Role::Records).cloned();
            let new = Manifest {
                kind: bottom.manifest.kind,
                parent: bottom.manifest.parent.clone(),
                files: records.chain([pages]).chain(packs).collect(),
                ..top.manifest.clone()
            };
            staging.write_manifest(&new)?;
            let lock = self.lock_exclusive()?;
            if self.replace(&lock, &mut staging, &top.manifest, &new)? {
                self.sweep(&lock, &mut staging);
                return Ok(());
            }
        }
    }
}

/// A page index with only those packs that it needs.
pub(super) fn index_of(packs: &PackSet, delta: &Delta) -> (Vec<FileRef>, PagesFile) {
    let used = delta.used(packs.files.len());
    let mut kept = PackSet::default();
    let numbers: Vec<u32> =
        packs.files.iter().zip(used).map(|(f, used)| if used { kept.number(f) } else { u32::MAX }).collect();
    let number = |pack| usize::try_from(pack).map_or(u32::MAX, |p| numbers[p]);
    let map = delta.map.with(|place| place.renumbered(number));
    let names = kept.files.iter().map(|f| f.name.clone()).collect();
    (kept.files, PagesFile { packs: names, live: delta.live.clone(), map })
}

/// A layer's own changes and packs.
pub(super) fn own(layer: &Layer) -> (PackSet, Delta) {
    let mut packs = PackSet::default();
    let map = layer.map(&mut packs);
    (packs, Delta { live: layer.index.live.clone(), map })
}
