//! /dev/net/tun: packets of a TUN or TAP interface, as Documentation/networking/tuntap.rst and include/uapi/linux/if_tun.h have it.
use crate::error::{SysError, SysResult};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// IFF_*, of queues and interfaces.
pub mod flag {
    /// IFF_TUN: IP packets.
    pub const TUN: u16 = 1;
    /// IFF_TAP: Ethernet frames.
    pub const TAP: u16 = 2;
    /// IFF_MULTI_QUEUE.
    pub const MULTI_QUEUE: u16 = 0x100;
    /// IFF_ATTACH_QUEUE.
    pub const ATTACH: u16 = 0x200;
    /// IFF_DETACH_QUEUE.
    pub const DETACH: u16 = 0x400;
    /// IFF_PERSIST, which is told only.
    pub const PERSIST: u16 = 0x800;
    /// IFF_NO_PI when asked for; told by [`super::attached`], it is IFF_NOFILTER: there is no filter.
    pub const NO_PI: u16 = 0x1000;
    /// IFF_VNET_HDR.
    pub const VNET_HDR: u16 = 0x4000;
}

/// A number of an interface that can be asked for and set through any of its queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// Bytes of packets from a queue that may be under way (TUNGETSNDBUF).
    SendBuffer,
    /// Bytes of the header before each packet (TUNGETVNETHDRSZ).
    HeaderSize,
    /// Whether that is little-endian (TUNGETVNETLE).
    LittleEndian,
}

impl Number {
    const fn get(self) -> libc::Ioctl {
        match self {
            Self::SendBuffer => 0x8004_54d3,
            Self::HeaderSize => 0x8004_54d7,
            Self::LittleEndian => 0x8004_54dd,
        }
    }

    const fn set(self) -> libc::Ioctl {
        match self {
            Self::SendBuffer => 0x4004_54d4,
            Self::HeaderSize => 0x4004_54d8,
            Self::LittleEndian => 0x4004_54dc,
        }
    }
}

/// `struct ifreq`, as far as it matters here.
#[repr(C)]
#[derive(Default)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u64; 2],
}

fn failed(call: &'static str, fd: BorrowedFd<'_>) -> SysError {
    SysError::last(call, format!("fd {}", fd.as_raw_fd()))
}

/// The interface that a descriptor is attached to, and [`flag`]s. None: it is attached to none.
pub fn attached(fd: BorrowedFd<'_>) -> SysResult<Option<(String, u16)>> {
    const TUNGETIFF: libc::Ioctl = 0x8004_54d2;
    let mut request = Request::default();
    // SAFETY: `request` is a `struct ifreq`.
    if unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETIFF, &raw mut request) } == 0 {
        let name = request.name.split(|byte| *byte == 0).next().unwrap_or_default();
        return Ok(Some((String::from_utf8_lossy(name).into_owned(), request.flags)));
    }
    match Errno::last() {
        Errno::EBADFD => Ok(None),
        errno => Err(SysError::new("ioctl(TUNGETIFF)", format!("fd {}", fd.as_raw_fd()), errno)),
    }
}

/// Attaches a descriptor to the interface called `name`, which is made if there is none.
pub fn attach(fd: BorrowedFd<'_>, name: &str, flags: u16) -> SysResult<()> {
    const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
    let mut request = Request { flags, ..Request::default() };
    // The last byte stays 0.
    for (to, from) in request.name.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    // SAFETY: `request` is a `struct ifreq`.
    match unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF, &raw mut request) } {
        0 => Ok(()),
        _ => Err(SysError::last("ioctl(TUNSETIFF)", name)),
    }
}

/// Takes the queue of a descriptor out of service, until it is attached again.
pub fn detach_queue(fd: BorrowedFd<'_>) -> SysResult<()> {
    const TUNSETQUEUE: libc::Ioctl = 0x4004_54d9;
    let request = Request { flags: flag::DETACH, ..Request::default() };
    // SAFETY: `request` is a `struct ifreq`.
    match unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETQUEUE, &raw const request) } {
        0 => Ok(()),
        _ => Err(failed("ioctl(TUNSETQUEUE)", fd)),
    }
}

/// The number of the interface that a descriptor will make.
pub fn set_index(fd: BorrowedFd<'_>, index: u32) -> SysResult<()> {
    const TUNSETIFINDEX: libc::Ioctl = 0x4004_54da;
    // SAFETY: the kernel reads an int.
    match unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFINDEX, &raw const index) } {
        0 => Ok(()),
        _ => Err(failed("ioctl(TUNSETIFINDEX)", fd)),
    }
}

/// Asks for a number of a descriptor's interface.
pub fn number(fd: BorrowedFd<'_>, which: Number) -> SysResult<i32> {
    let mut value = 0;
    // SAFETY: the kernel writes an int.
    match unsafe { libc::ioctl(fd.as_raw_fd(), which.get(), &raw mut value) } {
        0 => Ok(value),
        _ => Err(failed("ioctl(TUNGET…)", fd)),
    }
}

/// Sets a number of a descriptor's interface.
pub fn set_number(fd: BorrowedFd<'_>, which: Number, value: i32) -> SysResult<()> {
    // SAFETY: the kernel reads an int.
    match unsafe { libc::ioctl(fd.as_raw_fd(), which.set(), &raw const value) } {
        0 => Ok(()),
        _ => Err(failed("ioctl(TUNSET…)", fd)),
    }
}

/// What is set by value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// The interface stays without anybody (TUNSETPERSIST): 1 or 0.
    Persistent,
    /// Who else may attach (TUNSETOWNER): a user id.
    Owner,
    /// Who else may attach (TUNSETGROUP): a group id.
    Group,
    /// What the program takes off the kernel's hands (TUNSETOFFLOAD): TUN_F_*.
    Offloads,
}

/// Sets something of a descriptor's interface.
pub fn set(fd: BorrowedFd<'_>, which: Setting, value: u32) -> SysResult<()> {
    let (request, call): (libc::Ioctl, _) = match which {
        Setting::Persistent => (0x4004_54cb, "ioctl(TUNSETPERSIST)"),
        Setting::Owner => (0x4004_54cc, "ioctl(TUNSETOWNER)"),
        Setting::Group => (0x4004_54ce, "ioctl(TUNSETGROUP)"),
        Setting::Offloads => (0x4004_54d0, "ioctl(TUNSETOFFLOAD)"),
    };
    // SAFETY: no pointers.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request, libc::c_ulong::from(value)) } {
        0 => Ok(()),
        _ => Err(failed(call, fd)),
    }
}

/// Instructions of the filter that a TAP interface has, or had (TUNATTACHFILTER).
pub fn filter_length(fd: BorrowedFd<'_>) -> SysResult<u16> {
    const TUNGETFILTER: libc::Ioctl = 0x8010_54db;
    let mut program = libc::sock_fprog { len: 0, filter: std::ptr::null_mut() };
    // SAFETY: `program` is what the kernel writes.
    match unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETFILTER, &raw mut program) } {
        0 => Ok(program.len),
        _ => Err(failed("ioctl(TUNGETFILTER)", fd)),
    }
}

/// The network namespace that a descriptor's interface is in (TUNGETDEVNETNS).
pub fn interface_namespace(fd: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    opened("ioctl(TUNGETDEVNETNS)", fd, 0x54e3)
}

/// The network namespace that a descriptor was opened in (SIOCGSKNS).
pub fn namespace(fd: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    opened("ioctl(SIOCGSKNS)", fd, 0x894c)
}

fn opened(call: &'static str, fd: BorrowedFd<'_>, request: libc::Ioctl) -> SysResult<OwnedFd> {
    // SAFETY: no pointers.
    let made = unsafe { libc::ioctl(fd.as_raw_fd(), request) };
    if made < 0 {
        return Err(failed(call, fd));
    }
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}
