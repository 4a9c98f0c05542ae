//! Multicast groups. The kernel does not list those of a socket: it is asked about each that any socket has joined.
use crate::error::CaptureResult;
use crate::files::{Context, FoundFile};
use ckpt_image::record::{MembershipV1, SocketV1};
use ckpt_sys::multicast::{self, Group};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The groups that sockets have joined, by network namespace ([`FileIndex::net_of`](crate::files::index::FileIndex::net_of)).
#[derive(Debug, Default)]
pub(in crate::files) struct Groups(RefCell<HashMap<Option<usize>, Rc<[Group]>>>);

impl Groups {
    /// Those of namespace `net`, which this thread is in.
    fn get(&self, net: Option<usize>) -> CaptureResult<Rc<[Group]>> {
        if let Some(groups) = self.0.borrow().get(&net) {
            return Ok(Rc::clone(groups));
        }
        let groups: Rc<[Group]> = multicast::groups()?.into();
        self.0.borrow_mut().insert(net, Rc::clone(&groups));
        Ok(groups)
    }
}

/// The groups that a socket has joined.
pub(super) fn memberships(
    context: &Context<'_>,
    file: &FoundFile,
    record: &SocketV1,
) -> CaptureResult<Vec<MembershipV1>> {
    let mut memberships = Vec::new();
    for group in context.groups.get(context.index.net_of(file)?)?.iter() {
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
