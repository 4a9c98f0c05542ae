//! Multicast groups, joined again.
use crate::error::{RestoreError, RestoreResult};
use crate::files::common::show;
use ckpt_image::record::SocketV1;
use ckpt_sys::multicast::{self, Filter, Group};
use ckpt_sys::sockaddr as address;
use std::os::fd::BorrowedFd;

/// Joins the groups that a socket was in.
pub(super) fn join(fd: BorrowedFd<'_>, record: &SocketV1) -> RestoreResult<()> {
    for membership in &record.internet.memberships {
        let interface = show(&membership.interface);
        let group = address::ip(&membership.group).map_or_else(|| "a group".into(), |ip| ip.to_string());
        let refused = |reason: String, remedy: &str| RestoreError::File {
            path: format!("multicast group {group} on {interface}"),
            reason: format!("a socket of the program is a member, which is not possible now: {reason}"),
            remedy: remedy.into(),
        };
        let Some(index) = index(&membership.interface) else {
            return Err(refused(
                "there is no such interface".into(),
                "Give this machine an interface of that name (ip link) and restore again",
            ));
        };
        let group = Group { index, interface: interface.clone(), address: membership.group.clone() };
        let filter = Filter { exclude: membership.exclude, sources: membership.sources.clone() };
        multicast::join(fd, &group, &filter).map_err(|error| {
            refused(error.source.to_string(), "Remove the cause (ip link, ip maddress) and restore again")
        })?;
    }
    Ok(())
}

fn index(interface: &[u8]) -> Option<u32> {
    nix::net::if_::if_nametoindex(interface).ok()
}
