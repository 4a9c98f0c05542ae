//! The scratch area in a target, and where the first system call is made before there is one.
use super::{InjectError, InjectResult};
use crate::addr::{CodeAddr, RemoteAddr};
use crate::arch;
use crate::memory::ProcessMemory;
use crate::proc;

/// Bytes of the scratch area's code page and recovery frame.
pub(super) const CODE_SIZE: u64 = 5 << 12;
/// Bytes of its data pages.
pub(super) const DATA_SIZE: u64 = 16 << 12;
/// Bytes of the whole scratch area.
pub const SCRATCH_SIZE: u64 = CODE_SIZE + DATA_SIZE;
pub(super) const FRAME_OFFSET: u64 = 256;

/// The scratch area of one address space.
#[derive(Debug, Clone, Copy)]
pub struct Scratch {
    pub(super) code: CodeAddr,
    pub(super) data: RemoteAddr,
}

impl Scratch {
    /// The address ranges that it takes up.
    #[must_use]
    pub fn ranges(&self) -> [std::ops::Range<u64>; 2] {
        [self.code.get()..self.code.get() + CODE_SIZE, self.data.get()..self.data.get() + DATA_SIZE]
    }
}

impl Scratch {
    /// Whether a thread with its instruction pointer at `ip` is still on its way out of this area.
    #[must_use]
    pub fn runs(&self, ip: u64) -> bool {
        (self.code.get()..self.code.get() + CODE_SIZE).contains(&ip)
    }
}

/// Scratch areas that a killed tracer left in `pid`, which recovered from that by itself.
pub fn leftovers(pid: i32, memory: &ProcessMemory) -> InjectResult<Vec<Scratch>> {
    let mark_size = arch::SCRATCH_MARK.len();
    let mut found = Vec::new();
    for mapping in proc::maps::maps(pid)? {
        let like_ours =
            mapping.end - mapping.start >= CODE_SIZE && mapping.path.is_empty() && !mapping.shared;
        if !like_ours || mapping.prot != (libc::PROT_READ | libc::PROT_EXEC).unsigned_abs() {
            continue;
        }
        // Neighbouring areas may have become one mapping.
        for code in (mapping.start..mapping.end).step_by(usize::try_from(CODE_SIZE).unwrap_or(1)) {
            let mut bytes = vec![0; mark_size + 8];
            memory.read(RemoteAddr::new(code + arch::MARK_OFFSET), &mut bytes)?;
            let (mark, data) = bytes.split_at(mark_size);
            if mark == arch::SCRATCH_MARK {
                let data = data.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
                found.push(Scratch { code: CodeAddr::new(code), data: RemoteAddr::new(data) });
            }
        }
    }
    Ok(found)
}

/// A system call instruction in the target: in its vDSO.
pub fn find_syscall_insn(pid: i32, memory: &ProcessMemory) -> InjectResult<CodeAddr> {
    let vdso = proc::maps::find_special(pid, b"[vdso]")?.ok_or(InjectError::NoEntry { pid })?;
    let len = usize::try_from(vdso.end - vdso.start).unwrap_or(0);
    let mut text = vec![0; len];
    memory.read(RemoteAddr::new(vdso.start), &mut text)?;
    let at = text
        .windows(arch::SYSCALL_INSN.len())
        .position(|window| window == arch::SYSCALL_INSN)
        .ok_or(InjectError::NoEntry { pid })?;
    Ok(CodeAddr::new(vdso.start + u64::try_from(at).unwrap_or(0)))
}
