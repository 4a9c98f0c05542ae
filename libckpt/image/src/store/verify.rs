//! Reading and checking every byte.
use super::dir::{self, DATA, FORMAT, MANIFESTS, TMP, data_role, manifest_id};
use super::open::Store;
use super::pack_reader::{BlockReader, PackReader};
use crate::format::{FileRef, Manifest, Role, split_records, unseal, unwrap};
use crate::{CheckpointId, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A file that is not as it was written.
#[derive(Debug)]
pub struct BadFile {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: StoreError,
}

/// What a verification found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Checkpoints whose manifests are good.
    pub checkpoints: u64,
    /// Files read.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Every bad file.
    pub bad: Vec<BadFile>,
}

impl VerifyReport {
    /// Whether all files are good.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.bad.is_empty()
    }

    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }

    fn bad(&mut self, fallback: PathBuf, error: StoreError) {
        let path = error.path().map_or(fallback, PathBuf::from);
        if !self.bad.iter().any(|b| b.path == path) {
            self.bad.push(BadFile { path, error });
        }
    }
}

/// A verification under way.
struct Verifier<'a> {
    store: &'a Store,
    report: VerifyReport,
    /// Data files that were read and found as this manifest, or another with the same entry, lists them.
    done: BTreeSet<(String, [u8; 32])>,
    /// Data files that a manifest lists, good or not.
    listed: BTreeSet<String>,
    /// Pages of each block of the good packs.
    packs: BTreeMap<String, Vec<u16>>,
    blocks: BlockReader,
}

impl Store {
    /// Reads and checks every byte of a checkpoint and its chain, or of the whole store. Goes on after a bad file, to find
    /// all. Needs no more than permission to read; what is being written at the moment is left out.
    ///
    /// # Errors
    /// [`StoreError::NoCheckpoint`]; the store's directories cannot be read. Bad files are not errors but in the report.
    pub fn verify(&self, id: Option<&CheckpointId>) -> Result<VerifyReport, StoreError> {
        let mut verifier = Verifier {
            store: self,
            report: VerifyReport::default(),
            done: BTreeSet::new(),
            listed: BTreeSet::new(),
            packs: BTreeMap::new(),
            blocks: BlockReader::new()?,
        };
        match self.check_format() {
            Ok(()) => verifier.report.add(crate::format::HEADER_LEN as u64),
            Err(e) => verifier.report.bad(self.layout.format(), e),
        }
        match id {
            Some(id) => verifier.chain(id)?,
            None => verifier.everything()?,
        }
        Ok(verifier.report)
    }
}

impl Verifier<'_> {
    fn chain(&mut self, id: &CheckpointId) -> Result<(), StoreError> {
        if let Err(e @ StoreError::NoCheckpoint { .. }) = self.store.manifest(id) {
            return Err(e);
        }
        let mut seen = BTreeSet::new();
        let mut next = Some(id.clone());
        while let Some(id) = next.filter(|id| seen.insert(id.clone())) {
            next = self.checkpoint(&id).and_then(|m| m.parent);
        }
        Ok(())
    }

    fn everything(&mut self) -> Result<(), StoreError> {
        let layout = &self.store.layout;
        for name in dir::names(&layout.root)? {
            if ![FORMAT, MANIFESTS, DATA, TMP].contains(&name.as_str()) {
                self.stray(layout.root.join(name));
            }
        }
        for name in dir::names(&layout.manifests())? {
            match manifest_id(&name) {
                Some(id) => drop(self.checkpoint(&id)),
                None => self.stray(layout.manifests().join(name)),
            }
        }
        // What no manifest needs: left by a killed writer, or about to be committed.
        for name in dir::names(&layout.data())? {
            let path = layout.data().join(&name);
            match data_role(&name) {
                Some(role) if !self.listed.contains(&name) => match self.unlisted(role, &name) {
                    Ok(()) | Err(StoreError::Missing { .. }) => {}
                    Err(e) => self.report.bad(path, e),
                },
                Some(_) => {}
                None => self.stray(path),
            }
        }
        Ok(())
    }

    fn stray(&mut self, path: PathBuf) {
        self.report.bad(path.clone(), StoreError::Stray { path });
    }

    /// Checks a checkpoint's manifest, its files, and that its parent is there.
    fn checkpoint(&mut self, id: &CheckpointId) -> Option<Manifest> {
        loop {
            let path = self.store.layout.manifest(id);
            let manifest = match self.store.read_manifest(id) {
                Ok(manifest) => manifest,
                // Removed meanwhile. If a child needs it, that is found there.
                Err(StoreError::Missing { .. }) => return None,
                Err(e) => {
                    self.report.bad(path, e);
                    return None;
                }
            };
            let mut errors = Vec::new();
            self.listed.extend(manifest.files.iter().map(|f| f.name.clone()));
            // Packs before the index that refers to them.
            for file in manifest.files.iter().rev() {
                if let Err(e) = self.data_file(&manifest, file) {
                    errors.push((self.store.layout.data_file(file), e));
                }
            }
            if let Some(parent) = &manifest.parent {
                let path = self.store.layout.manifest(parent);
                if !path.exists() {
                    errors.push((path.clone(), StoreError::Missing { path }));
                }
            }
            let vanished = errors.iter().any(|(_, e)| matches!(e, StoreError::Missing { .. }));
            if vanished {
                // Merged or removed meanwhile?
                match self.store.read_manifest(id) {
                    Ok(now) if now != manifest => continue,
                    Err(StoreError::Missing { .. }) => return None,
                    _ => {}
                }
            }
            self.report.checkpoints += 1;
            self.report.add(path.metadata().map_or(0, |m| m.len()));
            for (path, e) in errors {
                self.report.bad(path, e);
            }
            return Some(manifest);
        }
    }

    /// Checks a data file, once.
    fn data_file(&mut self, manifest: &Manifest, file: &FileRef) -> Result<(), StoreError> {
        if self.done.contains(&(file.name.clone(), file.digest)) {
            return Ok(());
        }
        match file.role {
            Role::Records => drop(self.store.read_records(manifest)?),
            Role::Pages => self.pages(manifest)?,
            _ => {
                let path = self.store.layout.data_file(file);
                let pack = PackReader::open(path, file, self.store.layout.id)?;
                self.blocks(&pack)?;
                let pages = pack.table().blocks.iter().map(|b| b.pages).collect();
                self.packs.insert(file.name.clone(), pages);
            }
        }
        self.report.add(file.length);
        self.done.insert((file.name.clone(), file.digest));
        Ok(())
    }

    /// Checks a page index, and that the pages that it names exist in those packs that are good.
    fn pages(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let layer = self.store.layer(manifest.clone())?;
        let places =
            layer.index.map.iter().flat_map(|(_, e)| e.value.slots().map(move |slot| (slot, e.count)));
        for ((pack, slot), pages_in_a_row) in places {
            let name = usize::try_from(pack).ok().and_then(|p| layer.index.packs.get(p));
            let Some(blocks) = name.and_then(|n| self.packs.get(n)) else { continue };
            let pages = |block: u64| usize::try_from(block).ok().and_then(|b| blocks.get(b)).copied();
            let mut at = slot;
            while at < slot + pages_in_a_row {
                let (block, index) = (at / 64, at % 64);
                let last = (index + slot + pages_in_a_row - at).min(64);
                if pages(block).is_none_or(|n| u64::from(n) < last) {
                    let file = manifest.file(Role::Pages).next();
                    let path = file.map(|f| self.store.layout.data_file(f)).unwrap_or_default();
                    return Err(StoreError::corrupt(&path, "it names pages that its packs do not have"));
                }
                at += last - index;
            }
        }
        Ok(())
    }

    fn blocks(&mut self, pack: &PackReader) -> Result<(), StoreError> {
        (0..).take(pack.table().blocks.len()).try_for_each(|n| self.blocks.stored(pack, n).map(|_| ()))?;
        pack.hashes().map(|_| ())
    }

    /// Checks a file that no manifest lists: by what it says of itself.
    fn unlisted(&mut self, role: Role, name: &str) -> Result<(), StoreError> {
        let path = self.store.layout.data().join(name);
        let id = self.store.layout.id;
        if role == Role::Pack {
            let pack = PackReader::open_any(path, id, name)?;
            self.blocks(&pack)?;
            self.report.add(pack.table().file_len());
            return Ok(());
        }
        let file = dir::read_file(&path, u64::MAX)?;
        let (body, _, version) = unseal(&file, &path, role, Some(id), Some(name))?;
        if role == Role::Records {
            split_records(&unwrap(version, body, &path)?, &path)?;
        }
        self.report.add(file.len() as u64);
        Ok(())
    }
}
