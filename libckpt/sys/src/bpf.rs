//! bpf(2): maps, as their descriptors know them.
use crate::error::{SysError, SysResult};
use crate::pidfd::owned;
use crate::raw::syscall;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// `BPF_MAP_TYPE_HASH`.
pub const MAP_TYPE_HASH: u32 = 1;
/// `BPF_MAP_TYPE_ARRAY`.
pub const MAP_TYPE_ARRAY: u32 = 2;
/// BPF_F_RDONLY and BPF_F_WRONLY: what a descriptor allows.
pub const READ_ONLY: u32 = 1 << 3;
/// See [`READ_ONLY`].
pub const WRITE_ONLY: u32 = 1 << 4;

const MAP_CREATE: u64 = 0;
const MAP_LOOKUP_ELEM: u64 = 1;
const MAP_UPDATE_ELEM: u64 = 2;
const MAP_GET_NEXT_KEY: u64 = 4;
const MAP_GET_FD_BY_ID: u64 = 14;
const OBJ_GET_INFO_BY_FD: u64 = 15;
const MAP_FREEZE: u64 = 22;

/// A part of `union bpf_attr`, padded with zeros.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

impl Attributes {
    fn new() -> Self {
        Self([0; 128])
    }

    fn word(mut self, offset: usize, value: u32) -> Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn fd(self, offset: usize, fd: BorrowedFd<'_>) -> Self {
        self.word(offset, fd.as_raw_fd().unsigned_abs())
    }

    fn address(mut self, offset: usize, of: &[u8]) -> Self {
        let at = u64::try_from(of.as_ptr().expose_provenance()).unwrap_or(0);
        self.0[offset..offset + 8].copy_from_slice(&at.to_ne_bytes());
        self
    }

    fn address_to_fill(mut self, offset: usize, of: &mut [u8]) -> Self {
        let at = u64::try_from(of.as_mut_ptr().expose_provenance()).unwrap_or(0);
        self.0[offset..offset + 8].copy_from_slice(&at.to_ne_bytes());
        self
    }

    /// bpf(2) with the first `size` bytes.
    fn call(&self, command: u64, size: u64) -> Result<u64, Errno> {
        let at = u64::try_from(self.0.as_ptr().expose_provenance()).unwrap_or(0);
        // SAFETY: the attributes are those of the command, with addresses of buffers of the sizes that the map has.
        unsafe { syscall(libc::SYS_bpf, [command, at, size, 0, 0, 0]) }
    }
}

/// What a map is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapInfo {
    /// `BPF_MAP_TYPE_*`.
    pub kind: u32,
    /// Its id.
    pub id: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries at most.
    pub max_entries: u32,
    /// `BPF_F_*` that it was made with.
    pub flags: u32,
    /// Its name, up to a zero.
    pub name: [u8; 16],
    /// It has a description of its types, or belongs to a device.
    pub typed: bool,
}

/// What the map behind `fd` is.
pub fn info(fd: BorrowedFd<'_>) -> SysResult<MapInfo> {
    const LEN: usize = 88;
    let mut info = [0; LEN];
    Attributes::new()
        .fd(0, fd)
        .word(4, u32::try_from(LEN).unwrap_or(0))
        .address_to_fill(8, &mut info)
        .call(OBJ_GET_INFO_BY_FD, 16)
        .map_err(|errno| SysError::new("bpf(BPF_OBJ_GET_INFO_BY_FD)", "a map", errno))?;
    let word = |at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().unwrap_or_default());
    Ok(MapInfo {
        kind: word(0),
        id: word(4),
        key_size: word(8),
        value_size: word(12),
        max_entries: word(16),
        flags: word(20),
        name: info[24..40].try_into().unwrap_or_default(),
        typed: [40, 44, 64, 76].into_iter().any(|at| word(at) != 0),
    })
}

/// A new descriptor of the map with this id; `access`: 0, [`READ_ONLY`] or [`WRITE_ONLY`].
pub fn open(id: u32, access: u32) -> SysResult<OwnedFd> {
    let made = Attributes::new().word(0, id).word(8, access).call(MAP_GET_FD_BY_ID, 12);
    made.map(owned).map_err(|errno| SysError::new("bpf(BPF_MAP_GET_FD_BY_ID)", format!("map {id}"), errno))
}

/// Makes a map as `info` says, but for its id.
pub fn create(info: &MapInfo) -> SysResult<OwnedFd> {
    let mut attributes = Attributes::new()
        .word(0, info.kind)
        .word(4, info.key_size)
        .word(8, info.value_size)
        .word(12, info.max_entries)
        .word(16, info.flags);
    attributes.0[28..44].copy_from_slice(&info.name);
    let made = attributes.call(MAP_CREATE, 72);
    made.map(owned).map_err(|errno| SysError::new("bpf(BPF_MAP_CREATE)", "a map", errno))
}

/// All entries of a map of this kind: keys and values, one after the other.
pub fn entries(fd: BorrowedFd<'_>, info: &MapInfo) -> SysResult<Vec<u8>> {
    let failed = |errno| SysError::new("bpf(BPF_MAP_LOOKUP_ELEM)", format!("map {}", info.id), errno);
    let size = |bytes: u32| usize::try_from(bytes).unwrap_or(0);
    let (mut key, mut next) = (vec![0; size(info.key_size)], vec![0; size(info.key_size)]);
    let mut value = vec![0; size(info.value_size)];
    let mut found = Vec::new();
    let mut first = true;
    loop {
        let mut attributes = Attributes::new().fd(0, fd).address_to_fill(16, &mut next);
        if !first {
            attributes = attributes.address(8, &key);
        }
        match attributes.call(MAP_GET_NEXT_KEY, 32) {
            Ok(_) => {}
            Err(Errno::ENOENT) => return Ok(found),
            Err(errno) => return Err(failed(errno)),
        }
        first = false;
        key.copy_from_slice(&next);
        let lookup = Attributes::new().fd(0, fd).address(8, &key).address_to_fill(16, &mut value);
        match lookup.call(MAP_LOOKUP_ELEM, 32) {
            Ok(_) => {
                found.extend(&key);
                found.extend(&value);
            }
            // Somebody else has removed it meanwhile.
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}

/// Sets the value of a key. The lengths must be those of the map.
pub fn update(fd: BorrowedFd<'_>, info: &MapInfo, key: &[u8], value: &[u8]) -> SysResult<()> {
    let fits = |bytes: &[u8], size: u32| u32::try_from(bytes.len()) == Ok(size);
    let failed = |errno| SysError::new("bpf(BPF_MAP_UPDATE_ELEM)", format!("map {}", info.id), errno);
    if !fits(key, info.key_size) || !fits(value, info.value_size) {
        return Err(failed(Errno::EINVAL));
    }
    let attributes = Attributes::new().fd(0, fd).address(8, key).address(16, value);
    attributes.call(MAP_UPDATE_ELEM, 32).map(drop).map_err(failed)
}

/// Nobody may write to it by bpf(2) any more.
pub fn freeze(fd: BorrowedFd<'_>) -> SysResult<()> {
    let outcome = Attributes::new().fd(0, fd).call(MAP_FREEZE, 4);
    outcome.map(drop).map_err(|errno| SysError::new("bpf(BPF_MAP_FREEZE)", "a map", errno))
}
