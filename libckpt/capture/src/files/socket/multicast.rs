//! Multicast groups. The kernel does not list those of a socket: it is asked about each that any socket has joined.
use crate::error::CaptureResult;
use crate::files::{Context, FoundFile};
use ckpt_image::record::{MembershipV1, SocketV1};
use ckpt_sys::multicast::{self, Group};
use std::cell::OnceCell;

/// The groups that sockets of the job's network namespace have joined.
#[derive(Debug, Default)]
pub(in crate::files) struct Groups(OnceCell<Vec<Group>>);

impl Groups {
    fn get(&self, pid: i32) -> CaptureResult<&[Group]> {
        if let Some(groups) = self.0.get() {
            return Ok(groups);
        }
        let groups = multicast::groups(pid)?;
        Ok(self.0.get_or_init(|| groups))
    }
}

/// The groups that a socket has joined.
pub(super) fn memberships(
    context: &Context<'_>,
    file: &FoundFile,
    record: &SocketV1,
) -> CaptureResult<Vec<MembershipV1>> {
    let mut memberships = Vec::new();
    for group in context.groups.get(context.index.holder(file))? {
        // An IPv6 socket may be in groups of IPv4, too.
        if record.domain == libc::AF_INET && group.address.len() != 4 {
            continue;
        }
        if let Some(filter) = multicast::filter(file.dup(), group)? {
            memberships.push(MembershipV1 {
                interface: group.interface.clone().into_bytes(),
                group: group.address.clone(),
                exclude: filter.exclude,
                sources: filter.sources,
            });
        }
    }
    Ok(memberships)
}
