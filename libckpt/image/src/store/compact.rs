//! Rewriting packs that are mostly garbage, and many small ones as one.
use super::chain::{Layer, PackSet, retrying};
use super::dir::data_name;
use super::fold::{index_of, own};
use super::lock::StoreLock;
use super::open::Store;
use super::pack_file::PackFile;
use super::pack_reader::PackReader;
use super::repack::{Moved, Needed, copy};
use super::staging::Staging;
use crate::StoreError;
use crate::format::{FileRef, Manifest, PagesFile, Role};
use crate::map::{ExtentMap, Place};
use std::collections::BTreeSet;

/// More packs than this in one checkpoint are brought down to [`PACKS_KEPT`].
const PACKS_MAX: usize = 32;
const PACKS_KEPT: usize = 16;

/// The packs of a job and what is needed of them.
struct Survey {
    layers: Vec<Layer>,
    packs: PackSet,
    readers: Vec<PackReader>,
    needed: Needed,
}

impl Store {
    /// Rewrites the packs of a job of which less than half the pages are needed, and when a checkpoint is spread over
    /// many packs, the smallest of those. [`Store::merge`], [`Store::remove`] and [`Store::prune`] do this by themselves.
    ///
    /// # Errors
    /// A file is damaged; the store cannot be written. No checkpoint is harmed.
    pub fn compact(&self, job: &str) -> Result<(), StoreError> {
        let mut survey = retrying(|| self.survey(job))?;
        let chosen = survey.choose();
        if chosen.is_empty() {
            return Ok(());
        }
        survey.needed.retain(|pack| chosen.contains(&pack));
        let (operation, mut staging) = self.stage("compact")?;
        let (moved, pack) = survey.copy(&staging, data_name(&operation, Role::Pack), self.options.level)?;
        let lock = self.lock_exclusive()?;
        let names: Vec<String> = pack.iter().map(|p| p.name.clone()).collect();
        staging.publish_data(&names)?;
        // From here on a manifest may need the pack; if none does in the end, the sweep takes it.
        staging.keep();
        staging.leave_garbage(true);
        let replaced = survey.layers.iter().try_for_each(|layer| {
            let affected = layer.manifest.file(Role::Pack).any(|f| chosen.contains(&survey.packs.find(f)));
            if affected { self.move_index(&lock, &survey, layer, &moved, pack.as_ref()) } else { Ok(()) }
        });
        self.sweep(&lock, &mut staging);
        replaced
    }

    /// Compacts after something else that is done already, and that a damaged file or a full disk must not make fail.
    pub(super) fn tidy(&self, job: &str) {
        if let Err(e) = self.compact(job) {
            tracing::warn!("packs of job {job} are not compacted for now: {e}");
        }
    }

    /// Writes a checkpoint's page index anew.
    fn move_index(
        &self,
        lock: &StoreLock,
        survey: &Survey,
        layer: &Layer,
        moved: &Moved,
        pack: Option<&FileRef>,
    ) -> Result<(), StoreError> {
        let old = &layer.manifest;
        let (packs, index) = survey.moved(layer, moved, pack);
        // Names of files are never used twice, so each index has an operation of its own.
        let operation = self.new_id(lock)?;
        let mut staging = Staging::create(&self.layout, &operation, None, "compact")?;
        let pages = staging.write_pages(&operation, &index)?;
        let files = old.file(Role::Records).cloned().chain([pages]).chain(packs).collect();
        let new = Manifest { files, ..old.clone() };
        staging.write_manifest(&new)?;
        match self.replace(lock, &mut staging, old, &new) {
            // Changed or removed meanwhile: it keeps the packs that it has.
            Ok(_) | Err(StoreError::NoCheckpoint { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn survey(&self, job: &str) -> Result<Survey, StoreError> {
        let layers = self.checkpoints(Some(job))?.into_iter().map(|m| self.layer(m));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let (mut packs, mut needed) = (PackSet::default(), Needed::default());
        for layer in &layers {
            layer.map(&mut packs).iter().for_each(|(_, e)| needed.add(&e));
        }
        let open = |f: &FileRef| PackReader::open(self.layout.data_file(f), f, self.layout.id);
        let readers = packs.files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Survey { layers, packs, readers, needed })
    }
}

impl Survey {
    /// The packs to rewrite.
    fn choose(&self) -> BTreeSet<u32> {
        let needed: Vec<u64> = (0..).take(self.readers.len()).map(|n| self.needed.pages_of(n)).collect();
        let garbage = self.readers.iter().zip(&needed).map(|(r, needed)| r.table().pages() > 2 * needed);
        let mut chosen: BTreeSet<u32> = (0..).zip(garbage).filter(|(_, g)| *g).map(|(n, _)| n).collect();
        for layer in &self.layers {
            let mut numbers: Vec<u32> = (0..)
                .zip(&self.packs.files)
                .filter(|(_, f)| layer.manifest.files.contains(f))
                .map(|(n, _)| n)
                .collect();
            if numbers.len() > PACKS_MAX {
                numbers.sort_by_key(|n| usize::try_from(*n).map_or(0, |n| needed[n]));
                numbers.truncate(numbers.len() + 1 - PACKS_KEPT);
                chosen.extend(numbers);
            }
        }
        chosen
    }

    /// Copies what is needed into a new pack, if anything is.
    fn copy(
        &self,
        staging: &Staging,
        name: String,
        level: i32,
    ) -> Result<(Moved, Option<FileRef>), StoreError> {
        if self.needed.is_empty() {
            return Ok((Moved::default(), None));
        }
        let mut out = PackFile::create(staging.path(), name, staging.store(), staging.operation())?;
        let source = |n: u32| Ok(&self.readers[usize::try_from(n).unwrap_or_default()]);
        let moved =
            copy(&self.needed, level, source, |entry, stored, hashes| out.append(entry, stored, hashes))?;
        Ok((moved, Some(out.finish()?)))
    }

    /// A layer's packs and page index with the pages where they went.
    fn moved(&self, layer: &Layer, moved: &Moved, pack: Option<&FileRef>) -> (Vec<FileRef>, PagesFile) {
        let mut packs = self.packs.clone();
        let to = pack.map_or(u32::MAX, |p| packs.number(p));
        let (_, mut delta) = own(layer);
        let mut map: ExtentMap<Place> = ExtentMap::default();
        for (space, e) in layer.map(&mut packs).iter() {
            moved.apply(&e, to, |first, count, place| map.insert(space, first, count, place));
        }
        delta.map = map;
        index_of(&packs, &delta)
    }
}
