//! A recovery frame on the main stack, for the system calls that map and unmap the scratch area.
//!
//! Those two calls have no code of ours to return to. So they are made at a system call instruction of the program's own libc that returns through the stack, and
//! the stack pointer points to a chain of addresses that ends in rt_sigreturn(2), with the thread's own state above it. That stands on stack that is not
//! in use, near the far end of the `[stack]` mapping; what was there is put back.
use super::Gadgets;
use super::scratch::Scratch;
use crate::addr::{CodeAddr, RemoteAddr};
use crate::arch::{self, Gpr};
use crate::error::SysResult;
use crate::memory::ProcessMemory;
use crate::proc::maps::Mapping;

/// By which a thread that is on its way through the chain is known.
const MARK: &[u8; 16] = b"ckpt recovery 1\0";
/// Bytes below the stack pointer that a function may use without moving it (the ABI's red zone).
const RED_ZONE: u64 = 128;
/// Bytes left free below the frame if there are as many: a signal handler that runs before the frame's turn need not make the mapping grow.
const ROOM_BELOW: u64 = 16 << 10;
/// Bytes of the mark and the address of the system call after it.
const HEADER: u64 = 24;
/// Bytes at most from the mark to the end of the chain.
const CHAIN_END: usize = 128;
const ALIGNMENT: u64 = 64;

/// Where a recovery frame can stand, and how it is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct StackNet {
    gadgets: Gadgets,
    /// Begin of what is written.
    at: RemoteAddr,
    /// As [`super::Hints::call`].
    pub(super) call: Option<u64>,
}

/// A recovery frame in place.
#[derive(Debug)]
pub(super) struct Laid {
    at: RemoteAddr,
    before: Vec<u8>,
    /// The system call instruction.
    pub(super) call: CodeAddr,
    /// The stack pointer for the call.
    pub(super) sp: u64,
}

impl StackNet {
    /// Finds `size` bytes of stack that are not in use. `sp`: the stack pointer of the main thread, if that is the one to be held.
    pub(super) fn find(
        mappings: &[Mapping],
        memory: &ProcessMemory,
        gadgets: Gadgets,
        sp: Option<u64>,
        xstate: &[u8],
    ) -> Option<Self> {
        let writable = (libc::PROT_READ | libc::PROT_WRITE).unsigned_abs();
        let stack = mappings.iter().find(|mapping| mapping.path == b"[stack]")?;
        if stack.prot & writable != writable || stack.shared || stack.inode != 0 {
            return None;
        }
        let frame = arch::recovery_frame(0, &Gpr::default(), xstate, 0, (0, 0, 0));
        let size = u64::try_from(frame.len()).ok()? + chain_offset(&gadgets).1;
        // What the program uses of its stack lies above its stack pointer. A program that is on another stack may have anything on this one.
        let in_use = sp.filter(|sp| stack.range().contains(sp));
        let end = in_use.map_or(stack.end, |sp| sp.saturating_sub(RED_ZONE));
        let room = end.checked_sub(stack.start)?.checked_sub(size + ALIGNMENT)?;
        let at = RemoteAddr::new(stack.start + (room / 2).min(ROOM_BELOW) / ALIGNMENT * ALIGNMENT);
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        memory.read(at, &mut bytes).ok()?;
        let unused = bytes.starts_with(MARK) || bytes.iter().all(|byte| *byte == 0);
        (in_use.is_some() || unused).then_some(Self { gadgets, at, call: None })
    }

    /// Writes the frame, from which the thread recovers with these registers (settled), extended state and signal mask.
    pub(super) fn lay(
        &self,
        memory: &ProcessMemory,
        gpr: &Gpr,
        xstate: &[u8],
        sigmask: u64,
    ) -> SysResult<Laid> {
        let (chain_at, frame_at) = chain_offset(&self.gadgets);
        let frame = self.at.offset(frame_at).get();
        let mut bytes = MARK.to_vec();
        bytes.extend(self.gadgets.call().get().to_le_bytes());
        bytes.resize(usize::try_from(chain_at).unwrap_or(0), 0);
        bytes.extend(self.gadgets.chain().iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(arch::recovery_frame(frame, gpr, xstate, sigmask, arch::SAME_ALTSTACK));
        let mut before = vec![0; bytes.len()];
        memory.read(self.at, &mut before)?;
        let laid =
            Laid { at: self.at, before, call: self.gadgets.call(), sp: self.at.offset(chain_at).get() };
        if let Err(error) = memory.write(self.at, &bytes) {
            // A part may have been written.
            let _ = laid.lift(memory);
            return Err(error);
        }
        Ok(laid)
    }
}

impl Laid {
    /// The thread's registers after a call that nobody takes it from: all that is left is to recover.
    pub(super) fn standing(&self, gpr: &Gpr) -> Gpr {
        gpr.with_syscall(self.call.offset(arch::SYSCALL_INSN_SIZE).get(), 0, [0; 6]).with_stack(self.sp)
    }

    /// Puts back what was there before.
    pub(super) fn lift(&self, memory: &ProcessMemory) -> SysResult<()> {
        memory.write(self.at, &self.before)
    }
}

/// Offsets of the chain, and of the frame after it, which must be aligned.
fn chain_offset(gadgets: &Gadgets) -> (u64, u64) {
    let chain = 8 * u64::try_from(gadgets.chain().len()).unwrap_or(0);
    let frame = (HEADER + chain).next_multiple_of(ALIGNMENT);
    (frame - chain, frame)
}

/// Whether a thread with these registers is still on its way out of what a killed tracer had it do. `leftovers`: the scratch areas in its address space.
#[must_use]
pub fn is_recovering(gpr: &Gpr, leftovers: &[Scratch], memory: &ProcessMemory) -> bool {
    if leftovers.iter().any(|leftover| leftover.runs(gpr.ip())) {
        return true;
    }
    let mut below = [0; CHAIN_END];
    let Some(start) = gpr.stack_pointer().checked_sub(u64::try_from(CHAIN_END).unwrap_or(0)) else {
        return false;
    };
    let start = RemoteAddr::new(start);
    if memory.read(start, &mut below).is_err() {
        return false;
    }
    let Some(mark) = below.windows(MARK.len()).position(|window| window == MARK) else { return false };
    // The mark may be an old one: is the thread in code that the chain leads through?
    let words = below[mark + MARK.len()..].as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    let longest = u64::try_from(arch::gadget::LONGEST).unwrap_or(0);
    words
        .into_iter()
        .any(|address| address.checked_add(longest).is_some_and(|end| (address..end).contains(&gpr.ip())))
}
