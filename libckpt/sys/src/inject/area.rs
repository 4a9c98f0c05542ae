//! How the scratch area comes and goes, and what holds the thread meanwhile.
use super::scratch::{DATA_SIZE, FRAME_OFFSET, find_syscall_insn};
use super::stack::StackNet;
use super::{ALL_SIGNALS, Gadgets, Hints, InjectError, InjectResult, Injector, SCRATCH_SIZE};
use crate::addr::RemoteAddr;
use crate::arch::{self, Recovery};
use crate::fault;
use crate::proc::maps::Mapping;
use crate::ptrace;

impl Injector<'_> {
    /// Finds what holds the thread while there is no scratch area.
    pub(super) fn find_net(&mut self, mappings: &[Mapping], hints: Hints) -> InjectResult<()> {
        let known = hints.gadgets.filter(|known| known.are_in(mappings, self.memory));
        let Some(gadgets) = known.or_else(|| Gadgets::find_in(mappings, self.memory)) else {
            return Ok(());
        };
        let sp = (self.tid == self.pid).then(|| self.saved.stack_pointer());
        let xstate = ptrace::xstate(self.tid)?;
        self.scratch.net = StackNet::find(mappings, self.memory, gadgets, sp, &xstate);
        if let Some(net) = &mut self.scratch.net {
            net.call = hints.call;
        }
        Ok(())
    }

    /// Maps the area at the place that was chosen for it.
    pub(super) fn map_scratch(&mut self) -> InjectResult<()> {
        let place = self.scratch.start.get();
        self.stand_without_scratch()?;
        let prot = libc::PROT_READ | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let [prot, flags] = [prot, flags].map(|bits| u64::from(bits.unsigned_abs()));
        let args = [place, SCRATCH_SIZE, prot, flags, u64::MAX, 0];
        let mapped = self.raw_syscall(libc::SYS_mmap.cast_unsigned(), args)?;
        mapped.map_err(|errno| InjectError::Scratch { pid: self.pid, bytes: SCRATCH_SIZE, errno })?;
        self.owns_scratch = true;
        if self.laid.is_none() {
            // Until the frame is there, the thread stands where the program would go on.
            ptrace::set_gpr(self.tid, &self.saved.settled())?;
            self.block(self.saved_mask)?;
        }
        let xstate = ptrace::xstate(self.tid)?;
        self.lay_frame(&xstate)?;
        self.stand()?;
        let prot = u64::from((libc::PROT_READ | libc::PROT_WRITE).unsigned_abs());
        let args = [self.scratch.data().get(), DATA_SIZE, prot, 0, 0, 0];
        let opened = self.raw_syscall(libc::SYS_mprotect.cast_unsigned(), args)?;
        opened.map_err(|errno| InjectError::Scratch { pid: self.pid, bytes: DATA_SIZE, errno })?;
        Ok(())
    }

    /// Has the thread stand where it recovers by itself, whatever happens to us.
    pub(super) fn stand(&mut self) -> InjectResult<()> {
        let recovery = self.entry.offset(arch::SYSCALL_INSN_SIZE).get();
        ptrace::set_gpr(self.tid, &self.saved.with_syscall(recovery, 0, [0; 6]))?;
        self.stands = true;
        self.block(ALL_SIGNALS)?;
        self.lift_net();
        fault::point("inject", "held");
        Ok(())
    }

    /// Sets which signals the thread blocks. It has registers of ours, or its own mask.
    pub(super) fn block(&mut self, mask: u64) -> InjectResult<()> {
        if self.mask != mask {
            ptrace::set_sigmask(self.tid, mask)?;
            self.mask = mask;
        }
        Ok(())
    }

    /// Writes the code page, and the frame from which this thread with its extended state `xstate` recovers by itself once it stands there.
    pub(super) fn lay_frame(&mut self, xstate: &[u8]) -> InjectResult<()> {
        let code = RemoteAddr::new(self.scratch.code.get());
        let frame = code.get() + FRAME_OFFSET;
        // The signal stack is not known without a call.
        let settled = self.saved.settled();
        let bytes = arch::recovery_frame(frame, &settled, xstate, self.saved_mask, arch::SAME_ALTSTACK);
        debug_assert!(bytes.len() <= usize::try_from(arch::RESUME_OFFSET - FRAME_OFFSET).unwrap_or(0));
        let resumes = self.saved.has_restart_block();
        let recovery = if resumes { Recovery::Resume } else { Recovery::Sigreturn(frame) };
        let mut page = arch::scratch_code(recovery);
        page.resize(usize::try_from(FRAME_OFFSET).unwrap_or(0), 0);
        page.extend(bytes);
        self.memory.write(code, &page)?;
        if resumes {
            let resume = arch::resume_code(&settled, self.saved_mask);
            self.memory.write(code.offset(arch::RESUME_OFFSET), &resume)?;
        }
        self.entry = self.scratch.code;
        Ok(())
    }

    /// Has the thread stand where it can map or unmap the scratch area.
    fn stand_without_scratch(&mut self) -> InjectResult<()> {
        if let Some(net) = self.scratch.net {
            let xstate = ptrace::xstate(self.tid)?;
            let settled = self.saved.settled_without_block(net.call);
            match net.lay(self.memory, &settled, &xstate, self.saved_mask) {
                Ok(laid) => {
                    fault::point("inject", "laid");
                    self.entry = laid.call;
                    // The mask after the registers: from then on the thread gets its own back.
                    ptrace::set_gpr(self.tid, &laid.standing(&self.saved))?;
                    self.stands = true;
                    self.block(ALL_SIGNALS)?;
                    self.laid = Some(laid);
                    fault::point("inject", "standing");
                    return Ok(());
                }
                Err(error) => tracing::debug!(pid = self.pid, %error, "no recovery frame on the stack"),
            }
        }
        self.entry = find_syscall_insn(self.pid, self.memory)?;
        self.stands = true;
        self.block(ALL_SIGNALS)?;
        Ok(())
    }

    /// Takes the frame on the stack away, for it is no longer needed.
    pub(super) fn lift_net(&mut self) {
        if let Some(laid) = self.laid.take() {
            fault::point("inject", "lifting");
            if let Err(error) = laid.lift(self.memory) {
                tracing::error!(pid = self.pid, %error, "the end of the stack could not be put back as it was");
            }
        }
    }

    pub(super) fn unmap_scratch(&mut self) -> InjectResult<()> {
        self.stand_without_scratch()?;
        let args = [self.scratch.start.get(), SCRATCH_SIZE, 0, 0, 0, 0];
        if let Err(errno) = self.raw_syscall(libc::SYS_munmap.cast_unsigned(), args)? {
            tracing::error!(pid = self.pid, %errno, "the scratch area could not be unmapped");
        }
        Ok(())
    }
}
