//! Ids in PID namespaces that the job's root is not in: who is known there by which.
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::Image;
use ckpt_image::record::{FurtherNamespaceV1, NamespaceContentsV1};
use std::collections::BTreeMap;

/// The PID namespaces of a job, by their places among the records of further namespaces.
#[derive(Debug, Default)]
pub(crate) struct InnerPids(BTreeMap<usize, Space>);

#[derive(Debug)]
struct Space {
    /// None: the namespace of the job's root.
    parent: Option<usize>,
    /// Ids here, by those in the namespace of the job's root.
    ids: BTreeMap<i32, i32>,
    makers: Vec<i32>,
}

impl InnerPids {
    /// Those of an image.
    pub(crate) fn read(image: &Image) -> RestoreResult<Self> {
        let records: Vec<FurtherNamespaceV1> = image.records()?;
        Self::of(records.iter().map(|record| &record.contents))
    }

    /// Those of such records.
    pub(crate) fn of<'a>(contents: impl Iterator<Item = &'a NamespaceContentsV1>) -> RestoreResult<Self> {
        let mut spaces = BTreeMap::new();
        for (at, contents) in contents.enumerate() {
            let NamespaceContentsV1::Pid { parent, ids, makers } = contents else { continue };
            let parent = parent.map(|parent| usize::try_from(parent).unwrap_or(usize::MAX));
            if parent.is_some_and(|parent| !spaces.contains_key(&parent)) {
                let what = format!("the PID namespace that namespace {at} is in does not come before it");
                return Err(RestoreError::Inconsistent { what });
            }
            spaces.insert(at, Space { parent, ids: ids.iter().copied().collect(), makers: makers.clone() });
        }
        Ok(Self(spaces))
    }

    /// The innermost one that has this id; None: that of the job's root.
    pub(crate) fn home(&self, id: i32) -> Option<usize> {
        // One comes after the one that it is in.
        self.0.iter().rev().find(|(_, space)| space.ids.contains_key(&id)).map(|(at, _)| *at)
    }

    /// The one that one is in.
    pub(crate) fn parent(&self, at: usize) -> Option<usize> {
        self.0.get(&at).and_then(|space| space.parent)
    }

    fn chain(&self, home: Option<usize>) -> impl Iterator<Item = &Space> {
        std::iter::successors(home, |at| self.parent(*at)).filter_map(|at| self.0.get(&at))
    }

    /// An id in each of those that it is in, as clone3(2) takes them: the innermost first.
    pub(crate) fn numbers(&self, id: i32) -> Vec<i32> {
        let inner = self.chain(self.home(id)).filter_map(|space| space.ids.get(&id).copied());
        inner.chain([id]).collect()
    }

    /// The inner ones of them, each with its namespace.
    pub(crate) fn levels(&self, id: i32) -> Vec<(usize, i32)> {
        let chain = std::iter::successors(self.home(id), |at| self.parent(*at));
        chain.filter_map(|at| Some((at, *self.0.get(&at)?.ids.get(&id)?))).collect()
    }

    /// As [`Self::numbers`], of a process for the time that is to have the same id in all.
    pub(crate) fn same_in_all(&self, home: Option<usize>, id: i32) -> Vec<i32> {
        self.chain(home).map(|_| id).chain([id]).collect()
    }

    /// Whether a process group or session is known in one.
    pub(crate) fn knows(&self, at: usize, id: i32) -> bool {
        self.0.get(&at).is_some_and(|space| space.ids.contains_key(&id))
    }

    /// Whether a process is in one, or in one within it.
    pub(crate) fn is_in(&self, id: i32, at: usize) -> bool {
        std::iter::successors(self.home(id), |home| self.parent(*home)).any(|home| home == at)
    }

    /// The first process of one, by its id in the namespace of the job's root.
    pub(crate) fn first(&self, at: usize) -> RestoreResult<i32> {
        let first = self.0.get(&at).and_then(|space| space.ids.iter().find(|(_, inner)| **inner == 1));
        first.map(|(outer, _)| *outer).ok_or_else(|| RestoreError::Inconsistent {
            what: format!("PID namespace {at} has no first process"),
        })
    }

    /// The one that the children of process `pid` are born in, if that is not its own.
    pub(crate) fn of_children(&self, pid: i32) -> Option<usize> {
        self.0.iter().find(|(_, space)| space.makers.contains(&pid)).map(|(at, _)| *at)
    }
}
