//! Time namespaces that the job's root is not in. One that a process asked for its children (unshare(2)) is made by that process, when all others are there; who was in
//! it goes there then.
use super::{Further, enter, user};
use crate::birth::{self, Family};
use crate::error::RestoreResult;
use ckpt_image::record::InventoryV1;
use ckpt_sys::clocks::Offsets;
use ckpt_sys::namespace::{self, Namespace};
use std::fs::File;
use std::os::fd::AsFd;

/// A namespace that a process of the job makes.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) maker: i32,
    pub(super) members: Vec<i32>,
    pub(super) offsets: Offsets,
}

/// By how much clocks are ahead of the machine's that go on from where those of the job's root were; `own`: the root has clocks of its own, which go on already.
pub(super) fn of_root(own: bool, inventory: &InventoryV1) -> RestoreResult<Offsets> {
    let now = Offsets::own()?;
    Ok(if own { now } else { now.for_now([inventory.monotonic_ns, inventory.boottime_ns])? })
}

/// Makes one that belongs to `owner`.
pub(super) fn make(owner: Option<&user::Users>, offsets: Offsets) -> RestoreResult<File> {
    user::open_made(Namespace::Time, || {
        owner.map_or(Ok(()), user::Users::join)?;
        namespace::unshare(&[Namespace::Time])?;
        offsets.set(None)
    })
}

impl Further {
    /// Has processes make those that they asked for, and moves there who was in them. All processes are there, with one thread each.
    pub(crate) fn make_late_clocks(&self, family: &mut Family<'_>) -> RestoreResult<()> {
        for Late { maker, members, offsets } in &self.late_clocks {
            let flag = u64::from(Namespace::Time.flag().unsigned_abs());
            let builder = &mut birth::member(family, *maker)?.builder;
            builder.call("unshare", &"clocks of its children", libc::SYS_unshare, &[flag])?;
            offsets.set(Some(*maker))?;
            let made = namespace::open_for_children_of(*maker, Namespace::Time)?;
            for member in members {
                enter(&mut birth::member(family, *member)?.builder, Namespace::Time, made.as_fd())?;
            }
        }
        Ok(())
    }
}
