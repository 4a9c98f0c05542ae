//! Where, in the target's own text, a system call can be made that ends in rt_sigreturn(2).
use crate::addr::{CodeAddr, RemoteAddr};
use crate::arch::gadget;
use crate::error::SysResult;
use crate::memory::ProcessMemory;
use crate::proc::maps::{self, Mapping};

/// Bytes of text that are looked at in one piece.
const PIECE: u64 = 1 << 20;
/// Bytes of text that are looked at before the search is given up.
const SEARCH_MAX: u64 = 256 << 20;

/// Instructions of the target's libc or of the like, by which a thread returns into a signal frame when a system call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gadgets {
    call: CodeAddr,
    pops: u8,
    sigreturn: Sigreturn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sigreturn {
    /// Code that calls it.
    Restorer(CodeAddr),
    /// Code that loads the call's number from the stack.
    ByNumber(CodeAddr),
}

impl Gadgets {
    /// Searches the text of `pid`, which may run meanwhile; None: it has none of the kind.
    pub fn find(pid: i32, memory: &ProcessMemory) -> SysResult<Option<Self>> {
        Ok(Self::find_in(&maps::maps(pid)?, memory))
    }

    pub(super) fn find_in(mappings: &[Mapping], memory: &ProcessMemory) -> Option<Self> {
        let mut text: Vec<&Mapping> = mappings.iter().filter(|mapping| is_text(mapping)).collect();
        text.sort_by_key(|mapping| (!is_runtime(mapping), mapping.end - mapping.start));
        let mut found = Found::default();
        let mut left = SEARCH_MAX;
        for mapping in text {
            for start in (mapping.start..mapping.end).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX)) {
                // A sequence may lie across the edge of two pieces.
                let end = mapping.end.min(start + PIECE + u64::try_from(gadget::LONGEST).unwrap_or(0));
                let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
                // Text that cannot be read, such as that beyond a file's end, cannot be run either.
                if memory.read(RemoteAddr::new(start), &mut bytes).is_ok() {
                    found.look(start, &bytes);
                }
                left = left.saturating_sub(PIECE.min(mapping.end - mapping.start));
                if let Some(gadgets) = found.gadgets() {
                    return Some(gadgets);
                }
                if left == 0 {
                    return None;
                }
            }
        }
        None
    }

    /// Whether the instructions are still where they were found.
    pub(super) fn are_in(&self, mappings: &[Mapping], memory: &ProcessMemory) -> bool {
        let text_at = |address: CodeAddr| {
            let mapping = mappings.iter().find(|mapping| mapping.range().contains(&address.get()))?;
            let len = (mapping.end - address.get()).min(u64::try_from(gadget::LONGEST).unwrap_or(0));
            let mut bytes = vec![0; usize::try_from(len).ok()?];
            let read = memory.read(RemoteAddr::new(address.get()), &mut bytes);
            (is_text(mapping) && read.is_ok()).then_some(bytes)
        };
        let call = text_at(self.call).and_then(|text| gadget::call_and_return(&text));
        let sigreturn = match self.sigreturn {
            Sigreturn::Restorer(at) => text_at(at).and_then(|text| gadget::sigreturn(&text)),
            Sigreturn::ByNumber(at) => text_at(at).and_then(|text| gadget::load_and_return(&text)),
        };
        call.is_some_and(|call| (call.offset, call.pops) == (0, self.pops)) && sigreturn == Some(0)
    }

    /// A system call instruction, which is followed by a return through [`Self::chain`].
    pub(super) fn call(&self) -> CodeAddr {
        self.call
    }

    /// What the stack pointer points to during the call. The signal frame's `ucontext` follows it.
    pub(super) fn chain(&self) -> Vec<u64> {
        let mut chain = vec![0; usize::from(self.pops)];
        match self.sigreturn {
            Sigreturn::Restorer(at) => chain.push(at.get()),
            Sigreturn::ByNumber(load) => {
                chain.extend([load.get(), libc::SYS_rt_sigreturn.cast_unsigned(), self.call.get()]);
            }
        }
        chain
    }
}

/// The program's own text, which stays as it is: no code that a compiler at run time may change.
fn is_text(mapping: &Mapping) -> bool {
    let prot = (libc::PROT_READ | libc::PROT_EXEC).unsigned_abs();
    mapping.prot == prot && !mapping.shared && mapping.inode != 0
}

/// The dynamic linker, or the C library: there it is found soonest.
fn is_runtime(mapping: &Mapping) -> bool {
    let name = mapping.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    [b"ld-".as_slice(), b"ld.so", b"libc.", b"libc-"].iter().any(|prefix| name.starts_with(prefix))
}

#[derive(Default)]
struct Found {
    call: Option<(CodeAddr, u8)>,
    sigreturn: Option<Sigreturn>,
}

impl Found {
    fn look(&mut self, start: u64, text: &[u8]) {
        let at = |offset: usize| CodeAddr::new(start + u64::try_from(offset).unwrap_or(0));
        if self.call.is_none() {
            self.call = gadget::call_and_return(text).map(|found| (at(found.offset), found.pops));
        }
        if self.sigreturn.is_none() {
            let restorer = gadget::sigreturn(text).map(|offset| Sigreturn::Restorer(at(offset)));
            let by_number = || gadget::load_and_return(text).map(|offset| Sigreturn::ByNumber(at(offset)));
            self.sigreturn = restorer.or_else(by_number);
        }
    }

    fn gadgets(&self) -> Option<Gadgets> {
        let (call, pops) = self.call?;
        Some(Gadgets { call, pops, sigreturn: self.sigreturn? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_libc_has_them() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let memory = ProcessMemory::open(pid).unwrap();
        let mappings = maps::maps(pid).unwrap();
        let found = Gadgets::find_in(&mappings, &memory).unwrap();
        assert!(found.are_in(&mappings, &memory));
        let moved = Gadgets { call: found.call.offset(1), ..found };
        assert!(!moved.are_in(&mappings, &memory));
    }
}
