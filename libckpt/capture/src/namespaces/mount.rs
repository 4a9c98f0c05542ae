//! Mount namespaces: which mounts are there that are outside, too, and which are the job's own.
use crate::error::{CaptureError, CaptureResult};
use ckpt_image::record::{MountNamespaceV1, MountOriginV1, MountV1, TreeFileV1};
use ckpt_sys::proc::mounts::{self, Mount};
use origin::{Finder, Origin};

mod origin;
mod outer;
mod overlay;
mod tree;

pub(super) use outer::Outer;

/// The mounts of process `root`.
pub(super) fn capture(root: i32, outer: &Outer) -> CaptureResult<MountNamespaceV1> {
    let finder = Finder::new(root, mounts::of(root)?, outer);
    let mut found = Vec::new();
    for (at, origin) in finder.origins()?.into_iter().enumerate() {
        let mount = &finder.mounts[at];
        let origin = match origin {
            Origin::Outside => MountOriginV1::Outside,
            Origin::Bind(path) => MountOriginV1::Bind(path),
            Origin::Own { in_memory } => MountOriginV1::Own(files(&finder, at, in_memory)?),
            Origin::Part { of, in_memory } => MountOriginV1::Part {
                of: u32::try_from(of).unwrap_or(u32::MAX),
                files: files(&finder, at, in_memory)?,
            },
            Origin::Again => MountOriginV1::Again,
        };
        found.push(MountV1 {
            point: mount.point.clone(),
            root: mount.root.clone(),
            fs_type: mount.fs_type.clone(),
            source: mount.source.clone(),
            flags: mount.flags,
            options: mount.options.clone(),
            peers: mount.peers,
            master: mount.master,
            origin,
        });
    }
    Ok(MountNamespaceV1 { mounts: found })
}

/// The files that are saved with mount `at`.
fn files(finder: &Finder<'_>, at: usize, in_memory: bool) -> CaptureResult<Vec<TreeFileV1>> {
    if !in_memory || finder.is_covered(at) {
        return Ok(Vec::new());
    }
    tree::read(finder, &finder.mounts[at])
}

/// What of them cannot be saved.
pub(super) fn check(root: i32, outer: &Outer) -> CaptureResult<()> {
    Finder::new(root, mounts::of(root)?, outer).origins().map(drop)
}

/// A mount that cannot be saved.
fn refused(root: i32, mount: &Mount, reason: &str, remedy: &str) -> CaptureError {
    let (point, type_) = (String::from_utf8_lossy(&mount.point), &mount.fs_type);
    CaptureError::unsupported(root, format!("mount {point} ({type_}) of its mount namespace"), reason, remedy)
}
