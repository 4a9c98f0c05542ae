//! The table: every description at its numbers.
use super::{Made, Rings, Site};
use crate::builder::Builder;
use crate::error::{RestoreError, RestoreResult};
use ckpt_image::record::{FdTableV1, FdV1};
use ckpt_sys::socket::MESSAGE_FILES_MAX;
use ckpt_sys::{SysError, descriptor};
use std::os::fd::{AsFd, BorrowedFd};

/// Widest run of unused numbers that is filled for the time rather than jumped over.
const GAP_MAX: u64 = 64;

fn number(fd: &FdV1) -> u64 {
    u64::from(fd.fd.unsigned_abs())
}

/// Lets the process under construction have as many descriptors as its hard limit allows; its own limits come later.
pub(super) fn raise_limit(builder: &mut Builder<'_>, table: &FdTableV1) -> RestoreResult<()> {
    let needed = table.fds.last().map_or(0, |fd| number(fd) + 1);
    let resource = u64::from(libc::RLIMIT_NOFILE);
    let limits = builder.remote.reserve(16)?;
    builder.call("prlimit", &"RLIMIT_NOFILE", libc::SYS_prlimit64, &[0, resource, 0, limits.get()])?;
    let hard = builder.remote.memory().read_u64(limits.offset(8))?;
    if hard < needed {
        return Err(RestoreError::Machine {
            reason: format!(
                "the program has descriptor {}, and a process here may have {hard} at most",
                needed.saturating_sub(1)
            ),
            remedy: format!("Raise the hard limit (ulimit -Hn {needed}) and restore again"),
        });
    }
    let raised = builder.place(&[hard.to_ne_bytes(), hard.to_ne_bytes()].concat())?;
    builder.call("prlimit", &"RLIMIT_NOFILE", libc::SYS_prlimit64, &[0, resource, raised.get(), 0]).map(drop)
}

/// Puts all descriptors in place, by rising number. What is received gets the lowest free number: narrow gaps are filled with what
/// is closed again in the end, wide ones jumped over.
pub(super) fn place(site: &mut Site<'_, '_>, made: &Made, rings: &Rings) -> RestoreResult<()> {
    let filler = descriptor::open(b"/dev/null", libc::O_RDWR, 0)
        .map_err(|errno| SysError::new("open", "/dev/null", errno))?;
    let Site { builder, table, channel: way } = site;
    let channel = way.number();
    let mut batch = Batch { expected: Vec::new(), fds: Vec::new() };
    let mut gaps: Vec<(u64, u64)> = Vec::new();
    let mut free = 0;
    for fd in &table.fds {
        let missing = || RestoreError::Inconsistent { what: format!("descriptor {} has no file", fd.fd) };
        let file = made.get(&fd.file).map(AsFd::as_fd).ok_or_else(missing)?;
        let wanted = number(fd);
        if wanted - free <= GAP_MAX {
            let fill = (free..wanted).filter(|number| *number != channel);
            let gap: Vec<u64> = fill.collect();
            gaps.extend(gap.first().zip(gap.last()).map(|(first, last)| (*first, *last)));
            for number in gap {
                batch.push(builder, way, number, filler.as_fd())?;
            }
            if rings.contain(fd.file) {
                // It does not go through a socket with others.
                batch.flush(builder, way)?;
                let landed = way.send_one(builder, file)?;
                expect(&[wanted], &[landed])?;
            } else {
                batch.push(builder, way, wanted, file)?;
            }
            free = wanted + 1;
        } else {
            batch.flush(builder, way)?;
            let landed = way.send_one(builder, file)?;
            let cloexec = u64::from(libc::O_CLOEXEC.unsigned_abs());
            builder.call("dup3", &format!("fd {wanted}"), libc::SYS_dup3, &[landed, wanted, cloexec])?;
            builder.call("close", &format!("fd {landed}"), libc::SYS_close, &[landed])?;
        }
    }
    batch.flush(builder, way)?;
    for (first, last) in gaps {
        close_gap(builder, first, last, channel)?;
    }
    for fd in table.fds.iter().filter(|fd| !fd.cloexec) {
        let args = [number(fd), u64::from(libc::F_SETFD.unsigned_abs()), 0];
        builder.call("fcntl(F_SETFD)", &format!("fd {}", fd.fd), libc::SYS_fcntl, &args)?;
    }
    Ok(())
}

fn expect(wanted: &[u64], landed: &[u64]) -> RestoreResult<()> {
    if wanted == landed {
        return Ok(());
    }
    Err(RestoreError::Inconsistent { what: format!("descriptors {wanted:?} landed at {landed:?}") })
}

fn close_gap(builder: &mut Builder<'_>, first: u64, last: u64, channel: u64) -> RestoreResult<()> {
    let mut close = |first: u64, last: u64| {
        let range = format!("fd {first} to {last}");
        builder.call("close_range", &range, libc::SYS_close_range, &[first, last, 0]).map(drop)
    };
    if (first..last).contains(&channel) {
        close(first, channel - 1)?;
        return close(channel + 1, last);
    }
    close(first, last)
}

/// Descriptors on their way, and the numbers that they will get.
struct Batch<'f> {
    expected: Vec<u64>,
    fds: Vec<BorrowedFd<'f>>,
}

impl<'f> Batch<'f> {
    fn push(
        &mut self,
        builder: &mut Builder<'_>,
        way: &super::Channel,
        number: u64,
        fd: BorrowedFd<'f>,
    ) -> RestoreResult<()> {
        self.expected.push(number);
        self.fds.push(fd);
        if self.fds.len() == MESSAGE_FILES_MAX { self.flush(builder, way) } else { Ok(()) }
    }

    fn flush(&mut self, builder: &mut Builder<'_>, way: &super::Channel) -> RestoreResult<()> {
        if self.fds.is_empty() {
            return Ok(());
        }
        let numbers = way.send(builder, &self.fds)?;
        expect(&self.expected, &numbers)?;
        self.expected.clear();
        self.fds.clear();
        Ok(())
    }
}
