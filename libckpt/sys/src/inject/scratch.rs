//! The scratch area in a target: lanes, each a code page with the recovery frame of one thread, and data pages after them.
use super::stack::StackNet;
use super::{InjectError, InjectResult};
use crate::addr::{CodeAddr, RemoteAddr};
use crate::arch::{self, Gpr};
use crate::error::SysResult;
use crate::memory::ProcessMemory;
use crate::proc;
use crate::proc::maps::Mapping;
use std::ops::Range;

/// Threads that may stand on one scratch area at a time.
pub const LANES: usize = 8;
/// Bytes of a lane's code page and recovery frame.
const LANE_SIZE: u64 = 5 << 12;
/// Bytes of all lanes.
const CODE_SIZE: u64 = LANE_SIZE * LANES as u64;
/// Bytes of the data pages.
pub(super) const DATA_SIZE: u64 = 16 << 12;
/// Of those, bytes of each lane while several are in use.
const LANE_DATA_SIZE: u64 = DATA_SIZE / LANES as u64;
/// Bytes of the whole scratch area.
pub const SCRATCH_SIZE: u64 = CODE_SIZE + DATA_SIZE;
pub(super) const FRAME_OFFSET: u64 = 256;
/// Bytes of stack that a signal handler and what it calls may take up.
const STACK_SEARCH_MAX: usize = 1 << 20;
/// Bytes of a scratch area's note.
pub const NOTE_SIZE: usize = 64;

/// The scratch area of one address space, or a lane of it.
#[derive(Debug, Clone, Copy)]
pub struct Scratch {
    /// Begin of the area.
    pub(super) start: RemoteAddr,
    /// Code page of the lane.
    pub(super) code: CodeAddr,
    data: RemoteAddr,
    /// Bytes there.
    pub(super) data_size: u64,
    /// What holds the thread while this area comes and goes.
    pub(super) net: Option<StackNet>,
}

impl Scratch {
    pub(super) fn at(code: u64) -> Self {
        let start = RemoteAddr::new(code);
        let data = start.offset(CODE_SIZE);
        Self { start, code: CodeAddr::new(code), data, data_size: DATA_SIZE, net: None }
    }

    /// A lane of the area, below [`LANES`], for one thread of several at the same time. The first is the area's own.
    #[must_use]
    pub fn lane(&self, lane: usize) -> Self {
        let lane = u64::try_from(lane % LANES).unwrap_or(0);
        Self {
            code: CodeAddr::new(self.start.offset(lane * LANE_SIZE).get()),
            data: self.start.offset(CODE_SIZE + lane * LANE_DATA_SIZE),
            data_size: LANE_DATA_SIZE,
            ..*self
        }
    }

    pub(super) fn data(&self) -> RemoteAddr {
        self.data
    }

    /// The addresses that it takes up.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.start.get()..self.start.get() + SCRATCH_SIZE
    }

    /// Writes the area's note, for whoever finds the area after our death. A new area's is all zero.
    ///
    /// # Errors
    /// The target is gone.
    pub fn write_note(&self, memory: &ProcessMemory, note: &[u8; NOTE_SIZE]) -> SysResult<()> {
        memory.write(self.note_address(), note)
    }

    /// The area's note.
    ///
    /// # Errors
    /// The target is gone.
    pub fn note(&self, memory: &ProcessMemory) -> SysResult<[u8; NOTE_SIZE]> {
        let mut note = [0; NOTE_SIZE];
        memory.read(self.note_address(), &mut note)?;
        Ok(note)
    }

    fn note_address(&self) -> RemoteAddr {
        self.start.offset(LANE_SIZE - u64::try_from(NOTE_SIZE).unwrap_or(0))
    }

    /// Whether a thread with these registers will come back to this area, though it is not there now: a signal handler runs that was called from there. Told by the
    /// words on its stack.
    #[must_use]
    pub fn is_returned_to(&self, gpr: &Gpr, memory: &ProcessMemory) -> bool {
        let mut stack = vec![0; STACK_SEARCH_MAX];
        let sp = RemoteAddr::new(gpr.stack_pointer().next_multiple_of(8));
        let len = memory.read_some(sp, &mut stack).unwrap_or(0);
        let words = stack[..len].as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        words.into_iter().any(|word| self.runs(word))
    }

    /// Whether a thread with its instruction pointer at `ip` is still on its way out of this area.
    pub(super) fn runs(&self, ip: u64) -> bool {
        (self.start.get()..self.start.get() + CODE_SIZE).contains(&ip)
    }
}

/// The places for scratch areas, by which one is known that a killed tracer left: one in every tebibyte of the address space, where neither the
/// kernel nor a program puts anything by itself.
fn places() -> impl Iterator<Item = u64> {
    (2..127).map(|tebibyte| (tebibyte << 40) + 0x6b_7074_5000)
}

/// A place that nothing is mapped in.
pub(super) fn free_place(mappings: &[Mapping]) -> Option<RemoteAddr> {
    let is_free = |place: &u64| {
        mappings.iter().all(|mapping| mapping.end <= *place || mapping.start >= *place + SCRATCH_SIZE)
    };
    places().find(is_free).map(RemoteAddr::new)
}

/// Scratch areas that a killed tracer left in `pid`, which recovers from that by itself.
pub fn leftovers(pid: i32, memory: &ProcessMemory) -> InjectResult<Vec<Scratch>> {
    let mappings = proc::maps::maps(pid)?;
    let mut found = Vec::new();
    for mapping in mappings.iter().filter(|mapping| places().any(|place| place == mapping.start)) {
        let like_ours = mapping.inode == 0
            && mapping.path.is_empty()
            && !mapping.shared
            && mapping.prot == (libc::PROT_READ | libc::PROT_EXEC).unsigned_abs()
            && [CODE_SIZE, SCRATCH_SIZE].contains(&(mapping.end - mapping.start));
        if !like_ours {
            continue;
        }
        let mut code = vec![0; usize::try_from(FRAME_OFFSET).unwrap_or(0)];
        memory.read(RemoteAddr::new(mapping.start), &mut code)?;
        let mark_at = usize::try_from(arch::MARK_OFFSET).unwrap_or(0);
        // The tracer may have died before it wrote anything there.
        if code[mark_at..].starts_with(arch::SCRATCH_MARK) || code.iter().all(|byte| *byte == 0) {
            found.push(Scratch::at(mapping.start));
        }
    }
    Ok(found)
}

/// A system call instruction in the target: in its vDSO; if the program has unmapped that, in its own code.
pub(super) fn find_syscall_insn(pid: i32, memory: &ProcessMemory) -> InjectResult<CodeAddr> {
    const CODE: u32 = (libc::PROT_READ | libc::PROT_EXEC).unsigned_abs();
    const PIECE_MAX: u64 = 4 << 20;
    let mappings = proc::maps::maps(pid)?;
    let (vdso, others): (Vec<_>, Vec<_>) = mappings
        .iter()
        .filter(|mapping| mapping.prot & CODE == CODE && mapping.path != b"[vsyscall]")
        .partition(|mapping| mapping.path == b"[vdso]");
    for mapping in vdso.into_iter().chain(others) {
        let len = (mapping.end - mapping.start).min(PIECE_MAX);
        let mut text = vec![0; usize::try_from(len).unwrap_or(0)];
        if memory.read(RemoteAddr::new(mapping.start), &mut text).is_err() {
            continue;
        }
        let found = text.windows(arch::SYSCALL_INSN.len()).position(|window| window == arch::SYSCALL_INSN);
        if let Some(at) = found {
            return Ok(CodeAddr::new(mapping.start + u64::try_from(at).unwrap_or(0)));
        }
    }
    Err(InjectError::NoEntry { pid })
}
