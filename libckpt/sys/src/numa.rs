//! numa(7): nodes, and what mempolicy(2) calls have for them.
use crate::error::{SysError, SysResult};
use crate::raw;

/// MPOL_DEFAULT: no policy.
pub const DEFAULT: u32 = 0;
/// MPOL_F_RELATIVE_NODES: nodes are counted among those that may be used.
pub const RELATIVE_NODES: u32 = 1 << 14;
/// MPOL_F_ADDR: of the mapping at an address.
pub const OF_ADDRESS: u64 = 1 << 1;
/// More bits than any kernel has nodes: as the calls take them.
pub const NODES_MAX: u64 = 1024;
/// Bytes of a mask of as many.
pub const NODES_SIZE: usize = 128;

/// The nodes of a mask, rising.
#[must_use]
pub fn nodes(mask: &[u8]) -> Vec<u32> {
    let bits = mask.iter().enumerate().flat_map(|(at, byte)| {
        (0..8)
            .filter(move |bit| byte & (1 << bit) != 0)
            .filter_map(move |bit| u32::try_from(8 * at + bit).ok())
    });
    bits.collect()
}

/// The mask of these nodes. Such as no kernel has are left out.
#[must_use]
pub fn mask(nodes: &[u32]) -> [u8; NODES_SIZE] {
    let mut mask = [0; NODES_SIZE];
    for node in nodes {
        let at = usize::try_from(node / 8).unwrap_or(usize::MAX);
        if let Some(byte) = mask.get_mut(at) {
            *byte |= 1 << (node % 8);
        }
    }
    mask
}

/// Which of the pages at these addresses of process `pid` are in memory (move_pages(2), which without nodes only looks). One of zeros that was never written, one that
/// is in swap space, and one that is not there are not.
///
/// # Errors
/// ENOSYS: the kernel was built without NUMA. EPERM: the process may not be traced.
pub fn in_memory(pid: i32, addresses: &[u64]) -> SysResult<Vec<bool>> {
    let mut nodes = vec![0i32; addresses.len()];
    let pointer = |address: usize| u64::try_from(address).unwrap_or(0);
    let args = [
        i64::from(pid).cast_unsigned(),
        pointer(addresses.len()),
        pointer(addresses.as_ptr().expose_provenance()),
        0,
        pointer(nodes.as_mut_ptr().expose_provenance()),
        0,
    ];
    // SAFETY: the kernel reads as many addresses as there are, and writes an int for each.
    unsafe { raw::syscall(libc::SYS_move_pages, args) }
        .map_err(|errno| SysError::new("move_pages", format!("pid {pid}"), errno))?;
    Ok(nodes.into_iter().map(|node| node >= 0).collect())
}

/// The nodes of this machine that have memory. Without NUMA: node 0.
pub fn with_memory() -> SysResult<Vec<u32>> {
    let path = "/sys/devices/system/node/has_memory";
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).ok_or_else(|| {
            SysError::new("parse", path, std::io::Error::from(std::io::ErrorKind::InvalidData))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(vec![0]),
        Err(error) => Err(SysError::new("read", path, error)),
    }
}

/// A list such as `0-2,4`.
fn parse(text: &str) -> Option<Vec<u32>> {
    let mut nodes = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        nodes.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_written_is_in_memory_and_others_are_not() {
        let area = memmap2::MmapMut::map_anon(4 * 4096);
        let Ok(mut area) = area else { panic!("no memory") };
        area[4096] = 1;
        let at = |page: usize| u64::try_from(area.as_ptr().addr() + page * 4096).unwrap();
        match in_memory(std::process::id().cast_signed(), &[at(0), at(1), at(2)]) {
            Ok(found) => assert_eq!(found, [false, true, false]),
            Err(error) => assert_eq!(error.errno(), Some(nix::errno::Errno::ENOSYS)),
        }
    }

    #[test]
    fn masks_and_lists() {
        assert_eq!(nodes(&mask(&[0, 9, 1023, 5000])), [0, 9, 1023]);
        assert_eq!(parse("0-2,4\n").unwrap(), [0, 1, 2, 4]);
        assert_eq!(parse("\n").unwrap(), []);
        assert!(with_memory().unwrap().contains(&0));
    }
}
