//! Connections that this thread's network namespace tracks (ctnetlink, include/uapi/linux/netfilter/nfnetlink_conntrack.h).
use crate::error::SysResult;
use crate::netlink_request::{ACK, CREATE, DUMP, EXCLUSIVE, exchange};

const NETFILTER: (i32, &str) = (libc::NETLINK_NETFILTER, "nf_conntrack");
/// NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_NEW and IPCTNL_MSG_CT_GET.
const NEW: u16 = 1 << 8;
const GET: u16 = 1 << 8 | 1;
/// Bytes of `struct nfgenmsg`: family, version, resource.
pub const HEAD: usize = 4;

/// The messages of all of them: `struct nfgenmsg` and attributes (CTA_*). EOPNOTSUPP or the like: the kernel tracks none.
pub fn dump() -> SysResult<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    exchange(NETFILTER, GET, DUMP, &[0; HEAD], &mut |message| found.push(message.to_vec()))?;
    Ok(found)
}

/// Makes what `message` says. EEXIST: it is there.
pub fn make(message: &[u8]) -> SysResult<()> {
    exchange(NETFILTER, NEW, ACK | CREATE | EXCLUSIVE, message, &mut |_| {})
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_tracked_is_told() {
        let found = super::dump();
        assert!(found.is_ok_and(|messages| messages.iter().all(|message| message.len() > super::HEAD)));
    }
}
