//! The old tables of iptables, ip6tables and arptables (x_tables, over getsockopt(2)): whether they do anything. See <linux/netfilter_ipv4/ip_tables.h>.
use crate::error::{SysError, SysResult};
use crate::socket;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Bytes of a table's name.
const NAME: usize = 32;
/// Bytes of `struct xt_entry_target`, which a standard target's verdict follows.
const TARGET: usize = 32;
/// Bytes of `struct ipt_get_entries` before the entries.
const GET_ENTRIES: usize = 40;
/// The verdict of a policy that lets all pass: -NF_ACCEPT - 1.
const ACCEPT: i32 = -2;

/// What differs between the three.
struct Family {
    program: &'static str,
    /// File of /proc/PID/net.
    names: &'static str,
    domain: i32,
    level: i32,
    /// *T_SO_GET_INFO; *T_SO_GET_ENTRIES is the next.
    get_info: i32,
    /// Hooks in `struct *t_getinfo`.
    hooks: usize,
    /// Where an entry has `target_offset`.
    target_offset: usize,
}

const FAMILIES: [Family; 3] = [
    Family {
        program: "iptables",
        names: "ip_tables_names",
        domain: libc::AF_INET,
        level: libc::SOL_IP,
        get_info: 64,
        hooks: 5,
        target_offset: 88,
    },
    Family {
        program: "ip6tables",
        names: "ip6_tables_names",
        domain: libc::AF_INET6,
        level: libc::SOL_IPV6,
        get_info: 64,
        hooks: 5,
        target_offset: 140,
    },
    Family {
        program: "arptables",
        names: "arp_tables_names",
        domain: libc::AF_INET,
        level: libc::SOL_IP,
        get_info: 96,
        hooks: 3,
        target_offset: 164,
    },
];

/// The tables of this thread's network namespace that have rules, chains, or a policy other than to accept: the program that they are of, and
/// their names.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN.
pub fn in_use() -> SysResult<Vec<(&'static str, String)>> {
    let mut found = Vec::new();
    for family in &FAMILIES {
        let path = format!("/proc/thread-self/net/{}", family.names);
        let Ok(names) = fs::read_to_string(&path) else { continue };
        for name in names.lines().filter(|name| !name.is_empty()) {
            if family.is_in_use(name)? {
                found.push((family.program, name.to_owned()));
            }
        }
    }
    Ok(found)
}

impl Family {
    fn is_in_use(&self, name: &str) -> SysResult<bool> {
        let socket = socket::new(self.domain, libc::SOCK_DGRAM, 0)?;
        let mut info = vec![0; NAME + 4 + 2 * self.hooks * 4 + 8];
        self.get(socket.as_fd(), 0, name, &mut info)?;
        let number = |at: usize| word(&info, NAME + at * 4);
        let valid = number(0);
        let (first, last) = (1, 1 + self.hooks);
        let (count, size) = (number(2 * self.hooks + 1), number(2 * self.hooks + 2));
        let hooks = (0..self.hooks).filter(|hook| valid & 1 << hook != 0);
        // One entry for the policy of each chain, and one at the end.
        if count != valid.count_ones() + 1
            || hooks.clone().any(|hook| number(first + hook) != number(last + hook))
        {
            return Ok(true);
        }
        let mut entries = vec![0; GET_ENTRIES + usize::try_from(size).unwrap_or(0)];
        entries[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
        self.get(socket.as_fd(), 1, name, &mut entries)?;
        Ok(hooks.map(|hook| number(last + hook)).any(|at| {
            let entry = GET_ENTRIES + usize::try_from(at).unwrap_or(0);
            let target = usize::try_from(word(&entries, entry + self.target_offset) & 0xffff).unwrap_or(0);
            word(&entries, entry + target + TARGET).cast_signed() != ACCEPT
        }))
    }

    /// getsockopt(2) with a structure that begins with the table's name.
    fn get(&self, socket: BorrowedFd<'_>, which: i32, name: &str, bytes: &mut [u8]) -> SysResult<()> {
        let name_len = name.len().min(NAME - 1);
        bytes[..name_len].copy_from_slice(&name.as_bytes()[..name_len]);
        let mut len = libc::socklen_t::try_from(bytes.len()).unwrap_or(0);
        let (fd, option) = (socket.as_raw_fd(), self.get_info + which);
        // SAFETY: the kernel reads and writes at most `len` bytes of the buffer.
        let outcome =
            unsafe { libc::getsockopt(fd, self.level, option, bytes.as_mut_ptr().cast(), &raw mut len) };
        if outcome == 0 {
            return Ok(());
        }
        Err(SysError::last("getsockopt(x_tables)", format!("{} table {name}", self.program)))
    }
}

/// The word at an offset; 0 behind the end.
fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    word.map_or(0, u32::from_ne_bytes)
}
