//! Several system calls in one go: the thread makes them one after the other, and stops once, at their end.
//!
//! What stops it is a signal that it sends itself by tgkill(2), and that its tracer takes away: one that the program neither handles nor blocks, and whose
//! default is to be ignored, so that it means nothing should the tracer be dead by then. Where a program leaves none of them alone, each call is
//! a remote system call of its own.
use super::{ALL_SIGNALS, InjectError, InjectResult, Injector, Scratch};
use crate::addr::RemoteAddr;
use crate::arch;
use crate::fault;
use crate::ptrace::{self, Stop};
use nix::errno::Errno;

/// System calls for one thread, none of which may sleep, and the memory that they work on.
#[derive(Debug)]
pub struct Batch {
    base: RemoteAddr,
    data: Vec<u8>,
    calls: Vec<u8>,
}

/// Memory of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    at: usize,
    len: usize,
    address: u64,
}

impl Slot {
    /// Where the calls find it.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }
}

/// A call of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Call(usize);

/// A batch that a thread is at.
#[derive(Debug)]
pub struct Begun(State);

#[derive(Debug)]
enum State {
    Running { bytes: Vec<u8>, calls_at: usize },
    Done(Answers),
}

/// What the calls of a batch returned.
#[derive(Debug)]
pub struct Answers {
    data: Vec<u8>,
    results: Vec<u64>,
}

impl Batch {
    pub(super) fn new(scratch: Scratch) -> Self {
        Self { base: scratch.data(), data: Vec::new(), calls: Vec::new() }
    }

    /// Sets `len` bytes aside, which are zero.
    pub fn reserve(&mut self, len: usize) -> Slot {
        let at = self.data.len();
        self.data.resize((at + len).next_multiple_of(16), 0);
        Slot { at, len, address: self.base.offset(u64::try_from(at).unwrap_or(u64::MAX)).get() }
    }

    /// Sets `bytes` aside.
    pub fn place(&mut self, bytes: &[u8]) -> Slot {
        let slot = self.reserve(bytes.len());
        self.data[slot.at..slot.at + slot.len].copy_from_slice(bytes);
        slot
    }

    /// Adds system call `nr`.
    pub fn call(&mut self, nr: i64, args: &[u64]) -> Call {
        let number = self.count();
        let mut words = [0; arch::BATCH_CALL_SIZE / 8];
        words[0] = nr.cast_unsigned();
        words[1..=args.len()].copy_from_slice(args);
        self.calls.extend_from_slice(words.map(u64::to_ne_bytes).as_flattened());
        Call(number)
    }

    fn count(&self) -> usize {
        self.calls.len() / arch::BATCH_CALL_SIZE
    }
}

impl Answers {
    /// The outcome of a call.
    pub fn outcome(&self, call: Call) -> Result<u64, Errno> {
        let value = self.results[call.0];
        match value.cast_signed() {
            error @ -4095..0 => Err(Errno::from_raw(i32::try_from(-error).unwrap_or(libc::EINVAL))),
            _ => Ok(value),
        }
    }

    /// What is in memory of the batch now.
    #[must_use]
    pub fn bytes(&self, slot: Slot) -> &[u8] {
        &self.data[slot.at..slot.at + slot.len]
    }

    /// Word `index` of memory of the batch.
    #[must_use]
    pub fn word(&self, slot: Slot, index: usize) -> u64 {
        self.bytes(slot).as_chunks::<8>().0.get(index).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }
}

/// Signals whose default is to be ignored, as bits of a mask.
const HARMLESS: [i32; 3] = [libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD];

/// A signal that means nothing to a thread: neither in `taken`, a mask of signals that are handled, blocked or pending, nor by default.
#[must_use]
pub fn meaningless_signal(taken: u64) -> Option<i32> {
    HARMLESS.into_iter().find(|signal| taken & bit(*signal) == 0)
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

impl Injector<'_> {
    /// A batch for this thread, empty.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(self.scratch)
    }

    /// Lets batches end with a signal that [`meaningless_signal`] gave. None: the calls are made one by one, as they must be in a thread that a filter of system
    /// calls may kill for those that are left when the tracer dies.
    pub fn end_batches_by(&mut self, signal: Option<i32>) {
        self.batch_end = signal;
    }

    /// The target is in another PID namespace, where it has these ids: process and thread.
    pub fn known_as(&mut self, ids: (i32, i32)) {
        self.own_ids = ids;
    }

    /// Makes the calls of a batch.
    pub fn run(&mut self, batch: Batch) -> InjectResult<Answers> {
        let begun = self.begin(batch)?;
        self.end(begun)
    }

    /// Lets the thread make the calls of a batch without waiting for it, so that others can be at theirs meanwhile. Calls that are made one by one are
    /// waited for.
    pub fn begin(&mut self, batch: Batch) -> InjectResult<Begun> {
        let (count, calls_at) = (batch.count(), batch.data.len());
        let Batch { base, data: mut bytes, calls } = batch;
        if count == 0 {
            return Ok(Begun(State::Done(Answers { data: bytes, results: Vec::new() })));
        }
        let Some(signal) = self.batch_end else {
            return Ok(Begun(State::Done(self.run_one_by_one(base, bytes, &calls)?)));
        };
        bytes.extend(calls);
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > self.scratch.data_size {
            return Err(InjectError::TooLarge { bytes: bytes.len() });
        }
        self.memory.write(base, &bytes)?;
        let offset = |len: usize| base.offset(u64::try_from(len).unwrap_or(u64::MAX)).get();
        let id = |id: i32| u64::from(id.unsigned_abs());
        let end = [id(self.own_ids.0), id(self.own_ids.1), id(signal)];
        let ip = self.scratch.code.offset(arch::BATCH_OFFSET).get();
        let counted = u64::try_from(count).unwrap_or(0);
        ptrace::set_gpr(self.tid, &self.saved.with_batch(ip, offset(calls_at), counted, end))?;
        (self.parked, self.stands) = (false, true);
        self.block(ALL_SIGNALS & !bit(signal))?;
        ptrace::cont(self.tid, 0).map_err(|error| self.gone_or(error))?;
        self.running = Some(signal);
        fault::point("inject", "running");
        Ok(Begun(State::Running { bytes, calls_at }))
    }

    /// Waits until the calls of a batch are made.
    pub fn end(&mut self, begun: Begun) -> InjectResult<Answers> {
        let (mut bytes, calls_at) = match begun.0 {
            State::Running { bytes, calls_at } => (bytes, calls_at),
            State::Done(answers) => return Ok(answers),
        };
        self.await_batch()?;
        fault::point("inject", "batch");
        self.memory.read(self.scratch.data(), &mut bytes)?;
        let words = bytes[calls_at..].chunks(arch::BATCH_CALL_SIZE);
        let results = words.filter_map(|call| Some(u64::from_ne_bytes(*call.first_chunk::<8>()?))).collect();
        bytes.truncate(calls_at);
        Ok(Answers { data: bytes, results })
    }

    fn run_one_by_one(&mut self, base: RemoteAddr, mut data: Vec<u8>, calls: &[u8]) -> InjectResult<Answers> {
        self.memory.write(base, &data)?;
        let mut results = Vec::new();
        for call in calls.chunks(arch::BATCH_CALL_SIZE) {
            let mut words = call.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
            let nr = words.next().unwrap_or(0);
            let mut args = [0; 6];
            args.iter_mut().zip(words).for_each(|(arg, word)| *arg = word);
            let outcome = self.raw_syscall(nr, args)?;
            results.push(outcome.unwrap_or_else(|errno| (-i64::from(errno as i32)).cast_unsigned()));
        }
        self.memory.read(base, &mut data)?;
        Ok(Answers { data, results })
    }

    /// Waits until the thread has come to the end of the batch that it is at, if any.
    pub(super) fn await_batch(&mut self) -> InjectResult<()> {
        let Some(signal) = self.running.take() else { return Ok(()) };
        let end = self.scratch.code.offset(arch::BATCH_END_OFFSET).get();
        loop {
            match ptrace::wait(self.tid)? {
                Stop::Exited(_) | Stop::Killed(_) => {
                    self.done = true;
                    return Err(InjectError::Gone { tid: self.tid });
                }
                Stop::Signal(came) if came == signal => {
                    let gpr = ptrace::gpr(self.tid)?;
                    if gpr.ip() == end && gpr.batch_left() == 0 {
                        break;
                    }
                }
                Stop::Signal(other) => self.deferred.push(other),
                _ => {}
            }
            ptrace::cont(self.tid, 0).map_err(|error| self.gone_or(error))?;
        }
        self.parked = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_nobody_wants() {
        assert_eq!(meaningless_signal(0), Some(libc::SIGURG));
        assert_eq!(meaningless_signal(bit(libc::SIGURG)), Some(libc::SIGWINCH));
        assert_eq!(meaningless_signal(u64::MAX), None);
    }
}
