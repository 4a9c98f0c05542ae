//! PID namespaces that the job's root is not in. Each comes to be with its first process, which shows it to the others.
use super::{Further, Place, Whereabouts, enter};
use crate::birth::{self, Family};
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use crate::inner_pids::InnerPids;
use crate::namespaces::mount;
use ckpt_image::record::{MountOriginV1, MountV1};
use ckpt_sys::namespace::{self, Namespace};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::os::fd::AsFd;

/// How a process has a child born in a PID namespace.
#[derive(Debug)]
pub(crate) enum Way {
    /// Its own.
    Stay,
    /// One that is new with the child.
    New,
    /// Another: its children are born there for the time.
    Elsewhere {
        /// That one.
        there: File,
        /// Its own.
        own: File,
    },
}

impl Way {
    /// Before the birth.
    pub(crate) fn go(&self, builder: &mut Builder<'_>) -> RestoreResult<()> {
        match self {
            Self::Elsewhere { there, .. } => enter(builder, Namespace::Pid, there.as_fd()),
            _ => Ok(()),
        }
    }

    /// After the birth.
    pub(crate) fn come_back(&self, builder: &mut Builder<'_>) -> RestoreResult<()> {
        match self {
            Self::Elsewhere { own, .. } => enter(builder, Namespace::Pid, own.as_fd()),
            _ => Ok(()),
        }
    }

    /// The namespace is new with the child.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self, Self::New)
    }
}

impl Further {
    /// How process `parent`, which is in PID namespace `parents`, has process `pid` born in namespace `home`.
    pub(crate) fn way_to(
        &self,
        pids: &InnerPids,
        (pid, home): (i32, Option<usize>),
        (parent, parents): (i32, Option<usize>),
    ) -> RestoreResult<Way> {
        let Some(home) = home.filter(|home| Some(*home) != parents) else {
            return match home == parents {
                true => Ok(Way::Stay),
                false => Err(RestoreError::Inconsistent {
                    what: format!(
                        "process {pid} is in a PID namespace outside of that of its parent {parent}"
                    ),
                }),
            };
        };
        let first = pids.first(home)?;
        if first == pid && pids.parent(home) == parents {
            return Ok(Way::New);
        }
        let there = namespace::open_of(first, Namespace::Pid)?;
        Ok(Way::Elsewhere { there, own: namespace::open_of(parent, Namespace::Pid)? })
    }

    /// Has a process that asked for it make its children in another PID namespace from now on.
    pub(crate) fn choose_for_children(
        &self,
        builder: &mut Builder<'_>,
        pids: &InnerPids,
    ) -> RestoreResult<()> {
        let Some(at) = pids.of_children(builder.remote.pid()) else { return Ok(()) };
        let there = namespace::open_of(pids.first(at)?, Namespace::Pid)?;
        enter(builder, Namespace::Pid, there.as_fd())
    }

    /// Makes the mounts that show further PID namespaces, by processes that are there.
    pub(crate) fn mount_late(
        &self,
        family: &mut Family<'_>,
        whereabouts: &Whereabouts,
        pids: &InnerPids,
    ) -> RestoreResult<()> {
        for (at, place) in &self.places {
            for wanted in &place.late {
                let MountOriginV1::Proc(shown) = wanted.origin else { continue };
                let first = pids.first(usize::try_from(shown).unwrap_or(usize::MAX))?;
                let now = whereabouts.get(&first).and_then(|now| now.get(&Namespace::Mount));
                let builder = &mut birth::member(family, first)?.builder;
                if now == Some(at) {
                    mount_proc(builder, wanted)?;
                } else {
                    let own = now.and_then(|now| self.places.get(now)).map(|place| &place.open);
                    let own = own.or(self.own.get(&Namespace::Mount));
                    enter(builder, Namespace::Mount, place.open.as_fd())?;
                    mount_proc(builder, wanted)?;
                    own.map_or(Ok(()), |own| enter(builder, Namespace::Mount, own.as_fd()))?;
                }
                let outcome = std::thread::scope(|scope| scope.spawn(|| place.finish(wanted)).join());
                outcome.map_err(|_| RestoreError::Inconsistent { what: "a mount failed".into() })??;
            }
        }
        Ok(())
    }
}

impl Place {
    /// In a thread of its own: a mount of this mount namespace, made or made as it was.
    fn finish(&self, wanted: &MountV1) -> RestoreResult<()> {
        unshare(CloneFlags::CLONE_FS)
            .map_err(|errno| ckpt_sys::SysError::new("unshare", "directories", errno))?;
        namespace::join(self.open.as_fd(), &[Namespace::Mount])?;
        mount::finish(wanted)
    }
}

/// Mounts a proc file system that shows the PID namespace of the process.
fn mount_proc(builder: &mut Builder<'_>, wanted: &MountV1) -> RestoreResult<()> {
    let source = builder.place_path(&wanted.source)?.get();
    let type_ = builder.place_path(b"proc")?.get();
    let point = builder.place_path(&wanted.point)?.get();
    let options = wanted.options.split(',').filter(|option| !matches!(*option, "rw" | "ro"));
    let options = builder.place_path(options.collect::<Vec<_>>().join(",").as_bytes())?.get();
    let object = String::from_utf8_lossy(&wanted.point).into_owned();
    let args = [source, point, type_, 0, options];
    builder.call("mount(proc)", &object, libc::SYS_mount, &args).map(drop)
}
