//! From a checkpoint to all the files that hold its pages.
use super::dir::read_file;
use super::open::Store;
use crate::format::{FileRef, Kind, Manifest, PagesFile, Role, decode_pages};
use crate::map::{ExtentMap, PageSet, Place};
use crate::{CheckpointId, StoreError};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

/// A checkpoint of a chain with its page index.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) manifest: Manifest,
    pub(crate) index: PagesFile,
}

/// Packs by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackSet {
    pub(crate) files: Vec<FileRef>,
    numbers: HashMap<String, u32>,
}

impl PackSet {
    /// The number of a pack.
    pub(crate) fn number(&mut self, file: &FileRef) -> u32 {
        let next = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(file.name.clone()).or_insert_with(|| {
            self.files.push(file.clone());
            next
        })
    }
}

impl PackSet {
    /// The number of a pack that is in the set.
    pub(crate) fn find(&self, file: &FileRef) -> u32 {
        self.numbers.get(&file.name).copied().unwrap_or(u32::MAX)
    }
}

impl Layer {
    /// Its map with the pack numbers of `packs`.
    pub(crate) fn map(&self, packs: &mut PackSet) -> ExtentMap<Place> {
        let numbers = self.pack_numbers(packs);
        self.index.map.with(|place| place.renumbered(|local| number_of(&numbers, local)))
    }

    /// The numbers in `packs` of its own packs.
    fn pack_numbers(&self, packs: &mut PackSet) -> Vec<u32> {
        self.manifest.file(Role::Pack).map(|f| packs.number(f)).collect()
    }
}

fn number_of(numbers: &[u32], local: u32) -> u32 {
    usize::try_from(local).map_or(u32::MAX, |n| numbers[n])
}

/// What is on top of a full checkpoint or of another incremental one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Delta {
    pub(crate) live: Option<PageSet>,
    pub(crate) map: ExtentMap<Place>,
}

impl Delta {
    /// Puts `newer` on top: what both together change. Pages that are not live any more stay until [`Self::drop_dead`].
    fn push(&mut self, newer: Self) {
        self.live = match (self.live.take(), newer.live) {
            (None, live) => live,
            (Some(old), Some(new)) => {
                // Mapped again after it was gone: the oldest one's pages must not come back.
                for (space, e) in new.minus(&old).iter() {
                    self.map.insert(space, e.first, e.count, Place::Absent);
                }
                Some(new)
            }
            (Some(mut old), None) => {
                old.overlay(newer.map.pages());
                Some(old)
            }
        };
        self.map.overlay(newer.map);
    }

    /// Forgets what is not live.
    fn drop_dead(&mut self) {
        if let Some(live) = &self.live {
            self.map = self.map.within(live);
        }
    }

    /// Forgets what is absent: there is nothing below that it would hide.
    fn drop_absent(&mut self) {
        self.map.retain(|place| place != Place::Absent);
    }

    /// Which of so many packs have pages in it.
    pub(crate) fn used(&self, packs: usize) -> Vec<bool> {
        let mut used = vec![false; packs];
        for (_, e) in self.map.iter() {
            for (pack, _) in e.value.slots() {
                if let Some(used) = usize::try_from(pack).ok().and_then(|p| used.get_mut(p)) {
                    *used = true;
                }
            }
        }
        used
    }
}

impl Store {
    /// The chain of a checkpoint, the full one first.
    pub(crate) fn layers(&self, id: &CheckpointId) -> Result<Vec<Layer>, StoreError> {
        let mut layers = vec![self.layer(self.read_manifest(id)?)?];
        let mut seen = BTreeSet::from([id.clone()]);
        while let Some(parent) = layers.last().and_then(|l| l.manifest.parent.clone()) {
            if !seen.insert(parent.clone()) {
                let path = self.layout.manifest(&parent);
                return Err(StoreError::corrupt(&path, "it is its own ancestor"));
            }
            layers.push(self.layer(self.read_manifest(&parent)?)?);
        }
        layers.reverse();
        Ok(layers)
    }

    /// Reads a checkpoint's files with `action`, again when they vanish because someone merges or removes at the same time.
    pub(crate) fn following<T>(
        &self,
        id: &CheckpointId,
        action: impl FnMut() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.manifest(id)?;
        retrying(action).map_err(|e| match e {
            // Its files may be gone because it is.
            StoreError::Missing { .. } => self.manifest(id).err().unwrap_or(e),
            e => e,
        })
    }

    /// A checkpoint and, if it is incremental, its parent before it.
    pub(crate) fn layer_with_parent(&self, id: &CheckpointId) -> Result<Vec<Layer>, StoreError> {
        let top = self.layer(self.read_manifest(id)?)?;
        let parent = top.manifest.parent.as_ref().map(|p| self.layer(self.read_manifest(p)?)).transpose()?;
        Ok(parent.into_iter().chain([top]).collect())
    }

    /// Reads and checks a checkpoint's page index.
    pub(crate) fn layer(&self, manifest: Manifest) -> Result<Layer, StoreError> {
        let (path, file) = self.read_data(&manifest, Role::Pages)?;
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let (index, digest) = decode_pages(&file, &path, self.layout.id, name)?;
        check_digest(&manifest, Role::Pages, &path, digest)?;
        if !manifest.file(Role::Pack).map(|f| &f.name).eq(&index.packs) {
            return Err(StoreError::corrupt(&path, "it names other packs than its manifest"));
        }
        Ok(Layer { manifest, index })
    }

    /// The bytes of a checkpoint's records file or page index, of the right length but else unchecked.
    pub(crate) fn read_data(
        &self,
        manifest: &Manifest,
        role: Role,
    ) -> Result<(PathBuf, Vec<u8>), StoreError> {
        let Some(expected) = manifest.file(role).next() else {
            return Err(StoreError::corrupt(&self.layout.manifest(&manifest.id), "it lists no such file"));
        };
        let path = self.layout.data_file(expected);
        let file = read_file(&path, expected.length)?;
        if file.len() as u64 == expected.length {
            return Ok((path, file));
        }
        let reason = format!("{} bytes, {} expected", file.len(), expected.length);
        Err(StoreError::corrupt(&path, reason))
    }
}

/// Refuses an intact file that is another than the manifest lists.
pub(crate) fn check_digest(
    manifest: &Manifest,
    role: Role,
    path: &std::path::Path,
    digest: [u8; 32],
) -> Result<(), StoreError> {
    if manifest.file(role).next().is_some_and(|f| f.digest == digest) {
        return Ok(());
    }
    Err(StoreError::corrupt(path, "it is not the file that the manifest lists"))
}

/// What layers in a row change together, and the packs that the changes are in. When the first layer is a full
/// checkpoint, that is all pages there are. The layers' own indexes are used up: of many pages, a copy takes as long as what is done with it.
pub(crate) fn resolve(layers: &mut [Layer]) -> (PackSet, Delta) {
    let mut packs = PackSet::default();
    let mut all = Delta::default();
    for layer in &mut *layers {
        let numbers = layer.pack_numbers(&mut packs);
        let PagesFile { live, mut map, .. } = std::mem::take(&mut layer.index);
        if numbers.iter().zip(0..).any(|(number, local)| *number != local) {
            map.replace(|place| place.renumbered(|local| number_of(&numbers, local)));
        }
        all.push(Delta { live, map });
    }
    all.drop_dead();
    if layers.first().is_some_and(|l| l.manifest.kind == Kind::Full) {
        all.drop_absent();
    }
    (packs, all)
}

/// Does something that reads a chain, again when files vanish because someone merges or removes at the same time.
pub(super) fn retrying<T>(mut action: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let mut missing = None;
    loop {
        match action() {
            // Twice the same one: nobody replaces it.
            Err(StoreError::Missing { path }) if missing.as_ref() != Some(&path) => missing = Some(path),
            result => return result,
        }
    }
}
