//! A process that writes to files when the one that made it is killed.
use crate::error::{SysError, SysResult};
use crate::namespace::wait_for;
use crate::spawn::fork;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use std::fs::File;
use std::io::{PipeWriter, Read, Write};

/// What the child is told.
const END: u8 = 1;
const ARM: u8 = 2;

/// Stands by until this is finished or dropped with its process.
#[derive(Debug)]
pub struct Keeper {
    tell: PipeWriter,
    child: i32,
}

impl Keeper {
    /// A child of this process, deaf to signals, that writes `text` to the files, in order, should this process end without [`Self::finish`]. With
    /// `armed` false not before [`Self::arm`]. This process must have one thread only.
    pub fn start(files: &mut [(File, &str)], armed: bool) -> SysResult<Self> {
        let failed = |error| SysError::new("pipe2", "a process that stands by", error);
        let (mut told, tell) = std::io::pipe().map_err(failed)?;
        let masked = |errno| SysError::new("sigprocmask", "this thread", errno);
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before)).map_err(masked)?;
        let forked = fork(0, None);
        if let Ok(None) = forked {
            drop(tell);
            let (mut armed, mut word) = (armed, [0]);
            while matches!(told.read(&mut word), Ok(1)) {
                armed = word[0] == ARM;
                if !armed {
                    break;
                }
            }
            if armed {
                for (file, text) in files {
                    // Nobody is left to be told.
                    let _ = file.write_all(text.as_bytes());
                }
            }
            // SAFETY: ends this process without what would be the parent's to do.
            unsafe { libc::_exit(0) }
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).map_err(masked)?;
        Ok(Self { tell, child: forked?.unwrap_or(0) })
    }

    /// From now on the files are to be written to.
    ///
    /// # Errors
    /// The child has ended.
    pub fn arm(&mut self) -> SysResult<()> {
        let told = self.tell.write_all(&[ARM]);
        told.map_err(|error| SysError::new("write", "a process that stands by", error))
    }

    /// The files need not be written to any more.
    pub fn finish(mut self) {
        let _ = self.tell.write_all(&[END]);
        let _ = wait_for(self.child);
    }
}
