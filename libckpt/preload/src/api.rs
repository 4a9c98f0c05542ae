//! The functions of `include/ckpt.h`.
use crate::buffer::Buffer;
use crate::control::{self, Fd, Reply};
use crate::endpoint::{self, Path};
use crate::{Trouble, register, report_failed_save};

/// Nanoseconds between two looks at the ticket's file, at first and at most.
const FIRST_NAP: libc::c_long = 1_000_000;
const LONGEST_NAP: libc::c_long = 50_000_000;
/// Nanoseconds of naps after which the daemon is asked.
const ASK_AFTER: libc::c_long = 2_000_000_000;

/// Saves this program; see `ckpt.h`.
#[unsafe(no_mangle)]
pub extern "C" fn ckpt_save() -> libc::c_int {
    match save() {
        Ok(Outcome::Saved) => 0,
        Ok(Outcome::Restored) => 1,
        Err(trouble) => {
            report_failed_save(&trouble);
            -1
        }
    }
}

/// Whether this program is protected; see `ckpt.h`.
#[unsafe(no_mangle)]
pub extern "C" fn ckpt_is_protected() -> libc::c_int {
    libc::c_int::from(register::is_protected())
}

enum Outcome {
    Saved,
    Restored,
}

fn save() -> Result<Outcome, Trouble> {
    let ticket = {
        let reply = ask(br#"{"version":1,"request":{"op":"save","notify":true}}"#)?;
        control::succeeded(&reply)?;
        number(&reply).ok_or_else(|| Trouble::plain("the daemon gave an answer to another question"))?
    };
    // No descriptor is open from here on while the daemon saves this process, but for the moments of the file's looks.
    let file = ticket_file(ticket).ok_or_else(|| Trouble::plain("the runtime directory is gone"))?;
    let (mut nap, mut napped) = (FIRST_NAP, 0);
    loop {
        match verdict(&file) {
            Some(b'y') => return Ok(Outcome::Saved),
            Some(_) => {
                control::succeeded(&ask_for(ticket)?)?;
                return Ok(Outcome::Saved);
            }
            None => {}
        }
        let pause = libc::timespec { tv_sec: 0, tv_nsec: nap };
        // SAFETY: the time lives through the call. Being woken early does no harm.
        unsafe { libc::nanosleep(&raw const pause, core::ptr::null_mut()) };
        napped += nap;
        nap = (nap * 2).min(LONGEST_NAP);
        if napped > ASK_AFTER {
            napped = 0;
            let reply = ask_for(ticket)?;
            control::succeeded(&reply)?;
            let is = |what: &[u8]| {
                control::field(reply.bytes(), b"\"is\":").is_some_and(|rest| rest.starts_with(what))
            };
            if is(b"\"is_restored\"") {
                return Ok(Outcome::Restored);
            } else if is(b"\"saved\"") {
                return Ok(Outcome::Saved);
            }
        }
    }
}

fn ask_for(ticket: u64) -> Result<Reply, Trouble> {
    let mut request = Buffer::<128>::new();
    request.put(br#"{"version":1,"request":{"op":"ticket","ticket":"#);
    request.put_number(ticket);
    request.put(b"}}");
    ask(request.bytes())
}

fn ask(request: &[u8]) -> Result<Reply, Trouble> {
    let socket = register::connect()?.ok_or_else(|| Trouble::plain("no daemon runs"))?;
    control::exchange(&socket, request, None)
}

fn number(reply: &Reply) -> Option<u64> {
    let digits = control::field(reply.bytes(), b"\"ticket\":")?;
    let digits = digits.split(|byte| !byte.is_ascii_digit()).next()?;
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// The daemon's `tickets` module says what is in it.
fn ticket_file(ticket: u64) -> Option<Path> {
    let store = endpoint::canonical(&endpoint::store())?;
    let (dir, socket) = endpoint::socket(&store);
    let mut path = Path::new();
    path.put(dir.bytes());
    path.put(b"/");
    path.put(socket.bytes().strip_suffix(b"sock")?);
    path.put(b"ticket-");
    path.put_number(ticket);
    path.is_whole().then_some(path)
}

/// The first byte of the ticket's file, which is then removed; None while there is no such file.
fn verdict(path: &Path) -> Option<u8> {
    // SAFETY: the path ends with a NUL.
    let file = Fd(unsafe { libc::open(path.c_str(), libc::O_RDONLY | libc::O_CLOEXEC) });
    if file.0 < 0 {
        return None;
    }
    let mut first = [0];
    // SAFETY: the byte is ours; the path ends with a NUL.
    let got = unsafe {
        let got = libc::read(file.0, first.as_mut_ptr().cast(), 1);
        libc::unlink(path.c_str());
        got
    };
    (got == 1).then_some(first[0])
}
