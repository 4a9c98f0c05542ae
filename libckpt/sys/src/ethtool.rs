//! ethtool(8)'s interface to drivers: which features of an interface are on, by name (include/uapi/linux/ethtool.h).
use crate::error::{SysError, SysResult};
use crate::socket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const STRINGS: u32 = 0x1b;
const STRING_SET_INFO: u32 = 0x37;
const FEATURES: u32 = 0x3a;
/// ETH_SS_FEATURES.
const FEATURE_NAMES: u32 = 4;
/// Bytes of a name.
const NAME: usize = 32;

/// `struct ifreq` with a pointer.
#[repr(C)]
struct Request {
    name: [u8; 16],
    data: *mut u32,
    rest: [u64; 2],
}

/// One request, whose answer takes its place in `words`.
fn ask(link: BorrowedFd<'_>, interface: &str, words: &mut [u32]) -> SysResult<()> {
    let mut request = Request { name: [0; 16], data: words.as_mut_ptr(), rest: [0; 2] };
    for (to, from) in request.name.iter_mut().zip(interface.bytes().take(15)) {
        *to = from;
    }
    // SAFETY: callers leave room in `words` for what the kernel answers to their request.
    match unsafe { libc::ioctl(link.as_raw_fd(), SIOCETHTOOL, &raw mut request) } {
        0 => Ok(()),
        _ => Err(SysError::last("ioctl(SIOCETHTOOL)", interface)),
    }
}

/// The names of the features of an interface of this thread's network namespace that are on (`tx-checksum-ip-generic`).
pub fn features(interface: &str) -> SysResult<Vec<String>> {
    let link = socket::new(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // struct ethtool_sset_info: command, reserved, mask of sets (64 bits), lengths.
    let mut info = [STRING_SET_INFO, 0, 1 << FEATURE_NAMES, 0, 0];
    ask(link.as_fd(), interface, &mut info)?;
    let count = usize::try_from(info[4]).unwrap_or(0);
    // struct ethtool_gstrings: command, set, length, names.
    let mut strings = vec![0; 3 + count * NAME / 4];
    strings[..3].copy_from_slice(&[STRINGS, FEATURE_NAMES, info[4]]);
    ask(link.as_fd(), interface, &mut strings)?;
    // struct ethtool_gfeatures: command, number of blocks, blocks of available, requested, active and unchangeable ones.
    let blocks = count.div_ceil(32);
    let mut features = vec![0; 2 + 4 * blocks];
    features[..2].copy_from_slice(&[FEATURES, u32::try_from(blocks).unwrap_or(0)]);
    ask(link.as_fd(), interface, &mut features)?;
    let bytes: Vec<u8> = strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let names = bytes.chunks(NAME).enumerate().filter(|(at, _)| {
        let active = features.get(2 + 4 * (at / 32) + 2).copied().unwrap_or(0);
        active >> (at % 32) & 1 != 0
    });
    let text = |(_, name): (usize, &[u8])| {
        String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
    };
    Ok(names.map(text).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_loopback_interface_checks_nothing() {
        let features = super::features("lo").unwrap();
        assert!(features.iter().any(|name| name == "loopback"), "{features:?}");
    }
}
