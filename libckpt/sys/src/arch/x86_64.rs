//! x86-64.
use nix::errno::Errno;

pub mod gadget;
mod scratch;

pub use scratch::{
    AMX_TOUCH_OFFSET, BATCH_CALL_SIZE, BATCH_END_OFFSET, BATCH_OFFSET, CLONE_OFFSET, MARK_OFFSET,
    OFFSPRING_OFFSET, RESUME_OFFSET, Recovery, SCRATCH_MARK, resume_code, scratch_code,
};

/// General registers: `struct user_regs_struct` as NT_PRSTATUS has it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Gpr {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// Words in [`Gpr`].
pub const GPR_WORDS: usize = 27;

/// "Not in a system call" in [`Gpr::orig_rax`].
pub const NO_SYSCALL: u64 = u64::MAX;

/// Errors that only the kernel's own restart logic sees (include/linux/errno.h).
pub mod restart {
    /// Restart always unless a handler without SA_RESTART runs.
    pub const ERESTARTSYS: i64 = -512;
    /// Restart always.
    pub const ERESTARTNOINTR: i64 = -513;
    /// Restart if no handler runs.
    pub const ERESTARTNOHAND: i64 = -514;
    /// Restart by restart_syscall(2).
    pub const ERESTART_RESTARTBLOCK: i64 = -516;

    /// Whether a call returned one of them.
    #[must_use]
    pub fn is_restart(result: i64) -> bool {
        (ERESTART_RESTARTBLOCK..=ERESTARTSYS).contains(&result)
    }
}

impl Gpr {
    /// The registers as words, in the order of the kernel's structure.
    #[must_use]
    pub fn to_words(&self) -> [u64; GPR_WORDS] {
        // SAFETY: both are 27 words of plain data; the assertion below holds them together.
        unsafe { std::mem::transmute::<Self, [u64; GPR_WORDS]>(*self) }
    }

    /// The registers from words in the order of the kernel's structure.
    #[must_use]
    pub fn from_words(words: [u64; GPR_WORDS]) -> Self {
        // SAFETY: as in `to_words`; every bit pattern is a valid register.
        unsafe { std::mem::transmute::<[u64; GPR_WORDS], Self>(words) }
    }

    /// Instruction pointer.
    #[must_use]
    pub fn ip(&self) -> u64 {
        self.rip
    }

    /// Stack pointer.
    #[must_use]
    pub fn stack_pointer(&self) -> u64 {
        self.rsp
    }

    /// The system call that the thread was stopped in, if any.
    #[must_use]
    pub fn interrupted_syscall(&self) -> Option<u64> {
        (self.orig_rax.cast_signed() >= 0).then_some(self.orig_rax)
    }

    /// What the system call returned, as the kernel's negative error or value.
    #[must_use]
    pub fn result(&self) -> i64 {
        self.rax.cast_signed()
    }

    /// The arguments of the system call that the thread was stopped in.
    #[must_use]
    pub fn syscall_args(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }

    /// These registers changed so that the thread makes system call `nr` at `ip`, where a syscall instruction is.
    #[must_use]
    pub fn with_syscall(mut self, ip: u64, nr: u64, args: [u64; 6]) -> Self {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9] = args;
        self.rax = nr;
        self.orig_rax = NO_SYSCALL;
        self.rip = ip;
        // A direction or trap flag of the program has no place in the scratch code.
        self.eflags &= !0x500;
        self
    }

    /// These registers changed so that the thread runs the scratch page's code at `ip` for `count` system calls that are described at `calls`, a number and
    /// six arguments each; their results take the place of the numbers. Then it makes tgkill(`end`).
    #[must_use]
    pub fn with_batch(mut self, ip: u64, calls: u64, count: u64, end: [u64; 3]) -> Self {
        (self.rbx, self.rbp) = (calls, count);
        [self.r12, self.r13, self.r14] = end;
        self.with_syscall(ip, 0, [0; 6])
    }

    /// How many calls of a batch have not been made.
    #[must_use]
    pub fn batch_left(&self) -> u64 {
        self.rbp
    }

    /// These registers with another stack pointer.
    #[must_use]
    pub fn with_stack(mut self, sp: u64) -> Self {
        self.rsp = sp;
        self
    }

    /// The registers with which the program goes on when the kernel's restart logic is not there to do it: a call that would be restarted
    /// is made again, and one with a restart block goes on by restart_syscall(2).
    #[must_use]
    pub fn settled(mut self) -> Self {
        if self.interrupted_syscall().is_some() {
            match self.result() {
                restart::ERESTARTSYS | restart::ERESTARTNOINTR | restart::ERESTARTNOHAND => {
                    self.rax = self.orig_rax;
                    self.rip -= SYSCALL_INSN_SIZE;
                }
                restart::ERESTART_RESTARTBLOCK => {
                    self.rax = libc::SYS_restart_syscall.cast_unsigned();
                    self.rip -= SYSCALL_INSN_SIZE;
                }
                _ => {}
            }
        }
        self.orig_rax = NO_SYSCALL;
        self
    }

    /// Whether the system call that the thread was stopped in goes on by restart_syscall(2), with a restart block of the kernel's. rt_sigreturn(2) drops that
    /// block, and the call would return EINTR.
    #[must_use]
    pub fn has_restart_block(&self) -> bool {
        self.interrupted_syscall().is_some() && self.result() == restart::ERESTART_RESTARTBLOCK
    }

    /// As [`Self::settled`], for a thread whose restart block will be gone: a call that has one is made from its beginning. `call` is its number, which is not in
    /// the registers when it was restarted before; if it is not known either, the call returns EINTR.
    #[must_use]
    pub fn settled_without_block(self, call: Option<u64>) -> Self {
        let mut settled = self.settled();
        if self.has_restart_block() {
            let first =
                self.interrupted_syscall().filter(|nr| *nr != libc::SYS_restart_syscall.cast_unsigned());
            settled.rax = first.or(call).unwrap_or(settled.rax);
        }
        settled
    }

    /// The outcome of a finished system call.
    pub fn outcome(&self) -> Result<u64, Errno> {
        let value = self.rax.cast_signed();
        if (-4095..0).contains(&value) {
            Err(Errno::from_raw(i32::try_from(-value).unwrap_or(libc::EINVAL)))
        } else {
            Ok(self.rax)
        }
    }
}

const _: () = assert!(size_of::<Gpr>() == GPR_WORDS * 8);

/// The instruction that makes a system call.
pub const SYSCALL_INSN: [u8; 2] = [0x0f, 0x05];
/// Its length, bytes.
pub const SYSCALL_INSN_SIZE: u64 = 2;

/// Bytes of `struct ucontext` before the extended state, as rt_sigreturn reads it: flags, link, stack (24), sigcontext (256), mask (8).
const UCONTEXT_SIZE: usize = 16 + 24 + 256 + 8;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;
/// Offset of `sw_reserved` in the legacy area.
const SW_RESERVED: usize = 464;
/// Offset of XSTATE_BV, after the legacy area.
const XSTATE_BV: usize = 512;
/// CPUID leaf whose subleaf N has size (EAX) and offset (EBX) of XSAVE component N.
const XSAVE_LEAF: u32 = 0xd;

/// For [`recovery_frame`]: a signal stack that the kernel refuses (SS_ONSTACK alone), and so leaves the thread the one that it has.
pub const SAME_ALTSTACK: (u64, u32, u64) = (0, 1, 0);

/// Builds the frame that rt_sigreturn(2) restores `gpr` (settled), `xstate` (standard format) and the signal mask from, to stand
/// at `address`, which is aligned to 64 bytes. The signal stack is left as it is: SS_DISABLE'd frames would change it, so `altstack` is
/// what the thread has (address, flags, size).
#[must_use]
pub fn recovery_frame(
    address: u64,
    gpr: &Gpr,
    xstate: &[u8],
    sigmask: u64,
    altstack: (u64, u32, u64),
) -> Vec<u8> {
    let fp_offset = UCONTEXT_SIZE.next_multiple_of(64);
    let mut frame = Vec::with_capacity(fp_offset + xstate.len() + 4);
    let mut word = |value: u64| frame.extend(value.to_le_bytes());
    word(UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS);
    word(0);
    word(altstack.0);
    word(u64::from(altstack.1));
    word(altstack.2);
    for value in [
        gpr.r8, gpr.r9, gpr.r10, gpr.r11, gpr.r12, gpr.r13, gpr.r14, gpr.r15, gpr.rdi, gpr.rsi, gpr.rbp,
        gpr.rbx, gpr.rdx, gpr.rax, gpr.rcx, gpr.rsp, gpr.rip, gpr.eflags,
    ] {
        word(value);
    }
    word((gpr.cs & 0xffff) | (gpr.ss & 0xffff) << 48);
    for _ in 0..4 {
        word(0); // err, trapno, oldmask, cr2
    }
    word(address + u64::try_from(fp_offset).unwrap_or(0));
    for _ in 0..8 {
        word(0);
    }
    word(sigmask);
    frame.resize(fp_offset, 0);
    frame.extend(xstate);
    let taken = sigframe_xstate_size(xstate);
    let size = u32::try_from(taken).unwrap_or(0);
    let features: [u8; 8] =
        xstate.get(SW_RESERVED..SW_RESERVED + 8).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; 8]);
    // NT_X86_XSTATE keeps XCR0 where a signal frame keeps its own description.
    let area = &mut frame[fp_offset..];
    if area.len() >= XSTATE_BV + 8 {
        let reserved = &mut area[SW_RESERVED..SW_RESERVED + 48];
        reserved.fill(0);
        reserved[0..4].copy_from_slice(&FP_XSTATE_MAGIC1.to_le_bytes());
        reserved[4..8].copy_from_slice(&(size + 4).to_le_bytes());
        reserved[8..16].copy_from_slice(&features);
        reserved[16..20].copy_from_slice(&size.to_le_bytes());
        // Older kernels look for the end mark here, newer ones at the size of the thread's own area: with or without tile data.
        if let Some(end) = area.get_mut(taken..taken + 4) {
            end.copy_from_slice(&FP_XSTATE_MAGIC2.to_le_bytes());
        }
    }
    frame.extend(FP_XSTATE_MAGIC2.to_le_bytes());
    frame
}

/// Bytes of `xstate` that rt_sigreturn(2) may be told of: the kernel takes no more than the thread has room for, and a thread has room
/// for tile data only once it has used it.
fn sigframe_xstate_size(xstate: &[u8]) -> usize {
    let features = xstate_xcr0(xstate);
    if features & XFEATURE_TILE_DATA == 0 || xstate_components(xstate) & XFEATURE_TILE_DATA != 0 {
        return xstate.len();
    }
    (2..63)
        .filter(|component| features & !XFEATURE_TILE_DATA & (1 << component) != 0)
        .map(|component| {
            let leaf = std::arch::x86_64::__cpuid_count(XSAVE_LEAF, component);
            usize::try_from(leaf.ebx.saturating_add(leaf.eax)).unwrap_or(usize::MAX)
        })
        .max()
        .map_or(XSTATE_BV + 64, |end| end.min(xstate.len()))
}

/// XSTATE_BV of an XSAVE area: the components that are not in their initial state.
#[must_use]
pub fn xstate_components(xstate: &[u8]) -> u64 {
    xstate.get(XSTATE_BV..XSTATE_BV + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// XCR0 as NT_X86_XSTATE has it in an XSAVE area.
#[must_use]
pub fn xstate_xcr0(xstate: &[u8]) -> u64 {
    xstate
        .get(SW_RESERVED..SW_RESERVED + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// PKRU in an XSAVE area in standard format: the rights to memory with protection keys. None: the processor has none.
#[must_use]
pub fn xstate_pkru(xstate: &[u8]) -> Option<u32> {
    const COMPONENT: u32 = 9;
    if xstate_xcr0(xstate) & (1 << COMPONENT) == 0 {
        return None;
    }
    let at = usize::try_from(std::arch::x86_64::__cpuid_count(XSAVE_LEAF, COMPONENT).ebx).ok()?;
    xstate.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// PKRU of a thread that has not set it: no key but key 0 gives access.
pub const PKRU_INITIAL: u32 = 0x5555_5554;

/// XSAVE component of AMX tile data.
pub const XFEATURE_TILE_DATA: u64 = 1 << 18;

/// A tile configuration for LDTILECFG: palette 1 with one tile.
#[must_use]
pub fn amx_configuration() -> [u8; 64] {
    let mut configuration = [0; 64];
    configuration[0] = 1; // palette
    configuration[16] = 64; // bytes a row of tile 0
    configuration[48] = 16; // rows of tile 0
    configuration
}
