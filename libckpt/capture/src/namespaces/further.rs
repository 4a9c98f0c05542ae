//! Namespaces that processes of the job are in, but not its root. What is in them is read by a thread that goes there for the time.
use super::{net, uts_namespace};
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{FurtherNamespaceV1, NamespaceContentsV1, OpenFileId};
use ckpt_sys::namespace::{self, Namespace};
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Kinds that processes of a job may differ in.
const KINDS: [Namespace; 2] = [Namespace::Uts, Namespace::Net];

/// The further namespaces of a job.
#[derive(Debug, Default)]
pub(crate) struct Further {
    /// Of the root.
    roots: Vec<(Namespace, PathBuf)>,
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    namespace: Namespace,
    /// As [`Namespace::of`] has it.
    link: PathBuf,
    open: File,
    members: Vec<i32>,
    contents: Option<NamespaceContentsV1>,
}

impl Further {
    /// Those of a job's processes, its root first. This process is in all of the root's.
    pub(crate) fn find(pids: &[i32]) -> CaptureResult<Self> {
        let mut found = Self::default();
        let Some((&root, others)) = pids.split_first() else { return Ok(found) };
        for namespace in KINDS {
            let Some(roots) = namespace.of(root)? else { continue };
            for &pid in others {
                // It has ended, or does so right now.
                let Some(link) = alive(namespace.of(pid))?.flatten() else { continue };
                if link == roots {
                    continue;
                }
                match found.places.iter_mut().find(|place| place.link == link) {
                    Some(place) => place.members.push(pid),
                    None => {
                        let Some(open) = alive(namespace::open_of(pid, namespace))? else { continue };
                        let members = vec![pid];
                        found.places.push(Place { namespace, link, open, members, contents: None });
                    }
                }
            }
            found.roots.push((namespace, roots));
        }
        Ok(found)
    }

    /// Reads what is in those namespaces that take long to read, before the job is stopped.
    pub(crate) fn read_ahead(mut self) -> CaptureResult<Self> {
        for place in self.places.iter_mut().filter(|place| place.namespace == Namespace::Net) {
            place.contents = Some(place.read()?);
        }
        Ok(self)
    }

    /// Finds them again now that all processes stand still, and takes over what was read.
    pub(crate) fn again(self, pids: &[i32]) -> CaptureResult<Self> {
        let mut found = Self::find(pids)?;
        for mut before in self.places {
            if let Some(place) = found.places.iter_mut().find(|place| place.link == before.link) {
                place.contents = before.contents.take();
            }
        }
        Ok(found)
    }

    /// What of them cannot be saved.
    pub(crate) fn check(&self) -> Vec<CaptureError> {
        self.places.iter().filter_map(|place| place.read().err()).collect()
    }

    /// Whether there are any of a kind.
    pub(crate) fn has(&self, namespace: Namespace) -> bool {
        self.places.iter().any(|place| place.namespace == namespace)
    }

    /// All of a kind, the root's first, as [`Self::place`] takes them.
    pub(crate) fn all(&self, namespace: Namespace) -> impl Iterator<Item = Option<usize>> {
        let others = self.places.iter().enumerate().filter(move |(_, place)| place.namespace == namespace);
        std::iter::once(None).chain(others.map(|(at, _)| Some(at)))
    }

    /// The namespace with this link: Some(None) is the root's.
    pub(crate) fn with_link(&self, link: &Path) -> Option<Option<usize>> {
        if self.roots.iter().any(|(_, roots)| roots == link) {
            return Some(None);
        }
        self.places.iter().position(|place| place.link == link).map(Some)
    }

    /// A descriptor of a namespace; None is the root's, which this process is in.
    pub(crate) fn place(&self, at: Option<usize>) -> Option<BorrowedFd<'_>> {
        at.and_then(|at| self.places.get(at)).map(|place| place.open.as_fd())
    }

    /// The records of them; `files`: which open files belong to which.
    pub(crate) fn capture(&self, files: &[(OpenFileId, usize)]) -> CaptureResult<Vec<FurtherNamespaceV1>> {
        let mut records = Vec::new();
        for (at, place) in self.places.iter().enumerate() {
            let contents = place.contents.clone().map_or_else(|| place.read(), Ok)?;
            let files = files.iter().filter(|(_, of)| *of == at).map(|(file, _)| *file).collect();
            records.push(FurtherNamespaceV1 { members: place.members.clone(), files, contents });
        }
        Ok(records)
    }
}

impl Place {
    fn read(&self) -> CaptureResult<NamespaceContentsV1> {
        let pid = self.members[0];
        let outer =
            if self.namespace == Namespace::Net { net::Outer::of(pid)? } else { net::Outer::default() };
        let read = || match self.namespace {
            Namespace::Net => Ok(NamespaceContentsV1::Net(net::capture(pid, &outer)?)),
            _ => Ok(NamespaceContentsV1::Uts(uts_namespace()?)),
        };
        namespace::within(self.namespace, Some(self.open.as_fd()), read).map_err(|error| self.refused(error))
    }

    fn refused(&self, error: CaptureError) -> CaptureError {
        match error {
            CaptureError::Sys(error) if error.errno() == Some(Errno::EPERM) => CaptureError::unsupported(
                self.members[0],
                format!("{} namespace {}", self.namespace.name(), self.link.display()),
                "it is not the one that the job's root process is in, and ckpt may not go into it",
                "Run ckpt as root",
            ),
            error => error,
        }
    }
}

/// None: there is no such process any more.
fn alive<T>(outcome: ckpt_sys::SysResult<T>) -> CaptureResult<Option<T>> {
    match outcome {
        Err(error) if error.is_gone() => Ok(None),
        outcome => Ok(Some(outcome?)),
    }
}

/// Refuses a process of the job that is not in the namespaces that its root is in, where that makes a difference that cannot be saved.
pub(crate) fn check_same(root: i32, pid: i32) -> CaptureResult<Vec<CaptureError>> {
    let mut found = Vec::new();
    for namespace in Namespace::ALL.into_iter().filter(|namespace| !KINDS.contains(namespace)) {
        if let (Some(roots), Some(theirs)) = (namespace.of(root)?, namespace.of(pid)?)
            && roots != theirs
        {
            let (name, theirs) = (namespace.name(), theirs.display());
            found.push(CaptureError::unsupported(
                pid,
                format!("{name} namespace {theirs}"),
                format!("it is not the one that the job's root process {root} is in ({})", roots.display()),
                format!("Protect the first process that is in it by itself (ckpt attach {pid})"),
            ));
        }
    }
    Ok(found)
}
