//! Instructions in a program's own text by which a system call can be made to end in rt_sigreturn(2), without code of ours: sigreturn-oriented
//! programming, put to the program's service.
//!
//! A call that is made at a [`CallAndReturn`] returns to the address on the stack. There stands a [`sigreturn`] (every libc has one, for its own
//! signal handlers), with the frame above it on the stack; or, in its place, a [`load_and_return`] with the number of rt_sigreturn(2) and the
//! address of a system call instruction.
use super::SYSCALL_INSN;

/// `syscall`, any number of pops, `ret`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallAndReturn {
    /// Offset of the first instruction.
    pub offset: usize,
    /// Words popped before the return.
    pub pops: u8,
}

/// The longest of these sequences, bytes.
pub const LONGEST: usize = 2 + 2 * POPS_MAX as usize + 1;
const POPS_MAX: u8 = 6;
const RET: u8 = 0xc3;

/// The first `syscall; pop…; ret` in `text`.
#[must_use]
pub fn call_and_return(text: &[u8]) -> Option<CallAndReturn> {
    let calls = text.windows(SYSCALL_INSN.len()).enumerate().filter(|(_, window)| *window == SYSCALL_INSN);
    calls.into_iter().find_map(|(offset, _)| {
        let pops = pops_before_return(&text[offset + SYSCALL_INSN.len()..])?;
        Some(CallAndReturn { offset, pops })
    })
}

fn pops_before_return(mut text: &[u8]) -> Option<u8> {
    for pops in 0..=POPS_MAX {
        text = match text {
            [RET, ..] => return Some(pops),
            // pop rsp would leave the stack.
            [0x5c, ..] => return None,
            [0x58..=0x5f, rest @ ..] | [0x41, 0x58..=0x5f, rest @ ..] => rest,
            _ => return None,
        };
    }
    None
}

/// Offset of the first `mov $15, %eax; syscall` in `text`: rt_sigreturn(2).
#[must_use]
pub fn sigreturn(text: &[u8]) -> Option<usize> {
    const LONG: &[u8] = &[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];
    const SHORT: &[u8] = &[0xb8, 15, 0, 0, 0, 0x0f, 0x05];
    text.windows(SHORT.len())
        .enumerate()
        .find_map(|(at, window)| (window == SHORT || text[at..].starts_with(LONG)).then_some(at))
}

/// Offset of the first `pop %rax; ret` in `text`.
#[must_use]
pub fn load_and_return(text: &[u8]) -> Option<usize> {
    text.windows(2).position(|window| window == [0x58, RET])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_found() {
        let found = |text: &[u8]| call_and_return(text).map(|found| (found.offset, found.pops));
        assert_eq!(found(&[0x90, 0x0f, 0x05, 0xc3]), Some((1, 0)));
        assert_eq!(found(&[0x0f, 0x05, 0x90, 0x0f, 0x05, 0x5b, 0x41, 0x5c, 0xc3]), Some((3, 2)));
        assert_eq!(found(&[0x0f, 0x05, 0x5c, 0xc3]), None);
        assert_eq!(found(&[0x0f, 0x05]), None);
        assert_eq!(sigreturn(&[0xcc, 0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05]), Some(1));
        assert_eq!(sigreturn(&[0xb8, 15, 0, 0, 0, 0x0f, 0x05]), Some(0));
        assert_eq!(load_and_return(&[0x58, 0x58, 0xc3]), Some(1));
    }
}
