//! The code of the scratch page.
use super::{Gpr, SYSCALL_INSN, SYSCALL_INSN_SIZE};

/// Offset of [`SCRATCH_MARK`] in the scratch page.
pub const MARK_OFFSET: u64 = 128;
/// By which a scratch page is known that a tracer left behind when it was killed.
pub const SCRATCH_MARK: &[u8; 16] = b"ckpt scratch 1\0\0";
/// Offset in the scratch page of the code that touches AMX state.
pub const AMX_TOUCH_OFFSET: u64 = 64;
/// Offset of [`resume_code`] from the scratch page's begin.
pub const RESUME_OFFSET: u64 = 4 << 12;
/// Offset in the scratch page of the code that makes several system calls: see [`super::Gpr::with_batch`].
pub const BATCH_OFFSET: u64 = 144;
/// Offset in the scratch page of what follows the last of them: with these the thread recovers.
pub const BATCH_END_OFFSET: u64 = BATCH_OFFSET + 56;
/// Bytes of a call of a batch: its number, which its result replaces, and six arguments.
pub const BATCH_CALL_SIZE: usize = 56;
/// Offset in the scratch page of the code by which a thread makes a helper: see [`clone_code`].
pub const CLONE_OFFSET: u64 = 208;
/// Offset in the scratch page of the system call instruction of processes that were made there: what follows ends them.
pub const OFFSPRING_OFFSET: u64 = CLONE_OFFSET + 32;
/// Offset of the address that the code loads the stack pointer from.
const FRAME_SLOT: u64 = 32;

/// How a thread that runs on behind the scratch page's system call finds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// By rt_sigreturn(2), with the frame whose `ucontext` is at this address: at one stroke.
    Sigreturn(u64),
    /// By [`resume_code`], which keeps the restart block of an interrupted system call.
    Resume,
}

/// Code of the scratch page. A remote system call runs at its first instruction, and its tracer stops the thread there.
/// When the tracer has died the thread runs on into its recovery, with the program's own registers and signal
/// mask: so the program goes on as if nothing had been.
#[must_use]
pub fn scratch_code(recovery: Recovery) -> Vec<u8> {
    let mut code = Vec::with_capacity(160);
    code.extend(SYSCALL_INSN); // 0
    let frame = match recovery {
        Recovery::Sigreturn(frame) => {
            // mov rsp, [rip + (FRAME_SLOT - 9)]
            code.extend([0x48, 0x8b, 0x25]); // 2
            code.extend(distance(9, FRAME_SLOT)); // 5, ends at 9
            code.extend([0xb8, 0x0f, 0, 0, 0]); // 9: mov eax, 15
            code.extend(SYSCALL_INSN); // 14
            frame
        }
        Recovery::Resume => {
            code.push(0xe9); // 2: jmp
            code.extend(distance(7, RESUME_OFFSET)); // 3, ends at 7
            0
        }
    };
    code.extend([0x0f, 0x0b]); // ud2
    pad(&mut code, FRAME_SLOT);
    code.extend(frame.to_le_bytes());
    pad(&mut code, AMX_TOUCH_OFFSET);
    // ldtilecfg [rdi]; tilezero tmm0; then getpid so that the tracer sees a system call stop.
    code.extend([0xc4, 0xe2, 0x78, 0x49, 0x07]);
    code.extend([0xc4, 0xe2, 0x7b, 0x49, 0xc0]);
    code.extend([0xb8, 0x27, 0, 0, 0]);
    code.extend(SYSCALL_INSN);
    code.extend([0x0f, 0x0b]);
    pad(&mut code, MARK_OFFSET);
    code.extend(SCRATCH_MARK);
    pad(&mut code, BATCH_OFFSET);
    code.extend(batch_code());
    pad(&mut code, CLONE_OFFSET);
    code.extend(clone_code());
    code
}

/// Makes the calls at rbx, rbp of them, then tgkill(r12, r13, r14); without a tracer it recovers after that.
fn batch_code() -> Vec<u8> {
    let mut code = Vec::with_capacity(64);
    code.extend([0x48, 0x8b, 0x03]); // again: mov rax, [rbx]
    code.extend([0x48, 0x8b, 0x7b, 0x08]); // mov rdi, [rbx + 8]
    code.extend([0x48, 0x8b, 0x73, 0x10]); // mov rsi, [rbx + 16]
    code.extend([0x48, 0x8b, 0x53, 0x18]); // mov rdx, [rbx + 24]
    code.extend([0x4c, 0x8b, 0x53, 0x20]); // mov r10, [rbx + 32]
    code.extend([0x4c, 0x8b, 0x43, 0x28]); // mov r8, [rbx + 40]
    code.extend([0x4c, 0x8b, 0x4b, 0x30]); // mov r9, [rbx + 48]
    code.extend(SYSCALL_INSN);
    code.extend([0x48, 0x89, 0x03]); // mov [rbx], rax
    code.extend([0x48, 0x83, 0xc3, 0x38]); // add rbx, 56
    code.extend([0xff, 0xcd]); // dec ebp
    code.extend([0x75, 0xd8]); // jnz again
    code.extend([0x4c, 0x89, 0xe7]); // mov rdi, r12
    code.extend([0x4c, 0x89, 0xee]); // mov rsi, r13
    code.extend([0x4c, 0x89, 0xf2]); // mov rdx, r14
    code.extend([0xb8, 0xea, 0, 0, 0]); // mov eax, SYS_tgkill
    code.extend(SYSCALL_INSN);
    // jmp to what recovers, after the page's first instruction
    code.push(0xe9);
    let back = i32::try_from(BATCH_END_OFFSET + 5 - SYSCALL_INSN_SIZE).unwrap_or(0);
    code.extend((-back).to_le_bytes());
    code
}

/// Makes a clone(2) whose arguments are in place. Without a tracer the child ends, and the parent waits for that and recovers.
fn clone_code() -> Vec<u8> {
    let mut code = Vec::with_capacity(48);
    code.extend(SYSCALL_INSN);
    code.extend([0x85, 0xc0]); // test eax, eax
    code.extend([0x78, 0x15]); // js recover
    code.extend([0x74, 0x1a]); // jz end
    code.extend([0x89, 0xc7]); // mov edi, eax
    code.extend([0x31, 0xf6]); // xor esi, esi
    code.extend([0xba, 0, 0, 0, 0x40]); // mov edx, __WALL
    code.extend([0x45, 0x31, 0xd2]); // xor r10d, r10d
    code.extend([0xb8, 0x3d, 0, 0, 0]); // mov eax, SYS_wait4
    code.extend(SYSCALL_INSN);
    // recover: jmp to what recovers, after the page's first instruction
    code.push(0xe9);
    let back = i32::try_from(OFFSPRING_OFFSET - SYSCALL_INSN_SIZE).unwrap_or(0);
    code.extend((-back).to_le_bytes());
    code.extend(SYSCALL_INSN); // OFFSPRING_OFFSET
    code.extend([0x31, 0xff]); // end: xor edi, edi
    code.extend([0xb8, 0xe7, 0, 0, 0]); // mov eax, SYS_exit_group
    code.extend(SYSCALL_INSN);
    code.extend([0x0f, 0x0b]); // ud2
    code
}

fn distance(from: u64, to: u64) -> [u8; 4] {
    u32::try_from(to - from).unwrap_or(0).to_le_bytes()
}

fn pad(code: &mut Vec<u8>, offset: u64) {
    code.resize(usize::try_from(offset).unwrap_or(0), 0xcc);
}

/// Code that sets the signal mask and the registers `gpr` (settled), and goes on there. The extended state is the thread's own all the time.
#[must_use]
pub fn resume_code(gpr: &Gpr, sigmask: u64) -> Vec<u8> {
    const TRAP_FLAG: u64 = 0x100;
    let mut code = Code::default();
    // Nothing from the system call on changes flags; nor is there a moment with signals and without the program's own stack.
    let flags = code.slot(gpr.eflags & !TRAP_FLAG);
    code.refer(&[0x48, 0x8d, 0x25], flags); // lea rsp, [flags]
    code.bytes.push(0x9d); // popfq
    code.load(4, gpr.rsp);
    let mask = code.slot(sigmask);
    code.bytes.extend([0xb8, 14, 0, 0, 0]); // mov eax, SYS_rt_sigprocmask
    code.bytes.extend([0xbf, 2, 0, 0, 0]); // mov edi, SIG_SETMASK
    code.refer(&[0x48, 0x8d, 0x35], mask); // lea rsi, [mask]
    code.bytes.extend([0xba, 0, 0, 0, 0]); // mov edx, 0
    code.bytes.extend([0x41, 0xba, 8, 0, 0, 0]); // mov r10d, 8
    code.bytes.extend(SYSCALL_INSN);
    let low = [gpr.rax, gpr.rcx, gpr.rdx, gpr.rbx];
    let high =
        [gpr.rbp, gpr.rsi, gpr.rdi, gpr.r8, gpr.r9, gpr.r10, gpr.r11, gpr.r12, gpr.r13, gpr.r14, gpr.r15];
    for (number, value) in (0..).zip(low).chain((5..).zip(high)) {
        code.load(number, value);
    }
    let ip = code.slot(gpr.rip);
    code.refer(&[0xff, 0x25], ip); // jmp [ip]
    code.finish()
}

/// Code with the words that it refers to after it.
#[derive(Default)]
struct Code {
    bytes: Vec<u8>,
    slots: Vec<u64>,
    /// Where a distance is to be filled in, and to which slot.
    references: Vec<(usize, usize)>,
}

impl Code {
    fn slot(&mut self, value: u64) -> usize {
        self.slots.push(value);
        self.slots.len() - 1
    }

    /// An instruction that ends in the distance to a slot.
    fn refer(&mut self, instruction: &[u8], slot: usize) {
        self.bytes.extend(instruction);
        self.references.push((self.bytes.len(), slot));
        self.bytes.extend([0; 4]);
    }

    /// mov r64, [slot]
    fn load(&mut self, number: u8, value: u64) {
        let slot = self.slot(value);
        self.refer(&[0x48 | (number >> 3) << 2, 0x8b, (number & 7) << 3 | 5], slot);
    }

    fn finish(mut self) -> Vec<u8> {
        let slots_at = self.bytes.len().next_multiple_of(8);
        for (at, slot) in self.references {
            let distance = u32::try_from(slots_at + 8 * slot - (at + 4)).unwrap_or(0);
            self.bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.bytes.resize(slots_at, 0xcc);
        self.bytes.extend(self.slots.iter().flat_map(|word| word.to_le_bytes()));
        self.bytes
    }
}
