//! Netlink sockets: under the ports that they had, in their groups.
use super::{filter, options};
use crate::error::{RestoreError, RestoreResult};
use crate::files::Maker;
use ckpt_image::record::{OpenFileId, SocketStateV1, SocketV1};
use ckpt_sys::socket;
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Makes all netlink sockets.
pub(super) fn make_all(maker: &mut Maker<'_, '_>, sockets: &[(OpenFileId, &SocketV1)]) -> RestoreResult<()> {
    for (id, record) in sockets {
        let made = maker.further.in_net_of(*id, || make(record))?;
        maker.made.insert(*id, made);
    }
    Ok(())
}

fn make(record: &SocketV1) -> RestoreResult<OwnedFd> {
    let made = socket::new(record.domain, record.kind, record.protocol)?;
    let fd = made.as_fd();
    filter::attach(fd, record)?;
    if !record.local.is_empty() {
        socket::bind(fd, &record.local).map_err(|error| match error.errno() {
            Some(Errno::EADDRINUSE) => taken(record),
            _ => error.into(),
        })?;
    }
    options::all(fd, record)?;
    if let SocketStateV1::ConnectedTo { address } = &record.state {
        socket::connect(fd, address)?;
    }
    Ok(made)
}

fn taken(record: &SocketV1) -> RestoreError {
    let word = record.local.get(4..8).and_then(|word| word.try_into().ok());
    let port = word.map_or(0, u32::from_ne_bytes);
    RestoreError::Machine {
        reason: format!(
            "another program has port {port} of netlink protocol {} that a socket of the program is bound to",
            record.protocol
        ),
        remedy: "End it (/proc/net/netlink lists all, ss -A netlink -p says whose) and restore again".into(),
    }
}
