//! Filters of sockets: kept as the option that attaches them.
use crate::error::CaptureResult;
use crate::files::{Context, FoundFile};
use ckpt_image::record::SocketV1;
use ckpt_sys::socket;
use ckpt_sys::socket_filter::{self, Filter, SO_ATTACH_FILTER, SO_LOCK_FILTER};

/// Adds a socket's filter, and whether it is locked, to its options.
pub(super) fn add(context: &Context<'_>, file: &FoundFile, record: &mut SocketV1) -> CaptureResult<()> {
    let fd = file.dup();
    match socket_filter::get(fd)? {
        Filter::None => {}
        Filter::Classic(program) => record.options.push((libc::SOL_SOCKET, SO_ATTACH_FILTER, program)),
        Filter::Opaque => {
            return Err(context.unsupported(
                file,
                "an eBPF program is attached to it (SO_ATTACH_BPF), which the kernel does not show",
                "Detach it or close the socket before saving",
            ));
        }
    }
    if let Some(locked @ 1..) = socket::int_option(fd, libc::SOL_SOCKET, SO_LOCK_FILTER)? {
        record.options.push((libc::SOL_SOCKET, SO_LOCK_FILTER, locked.to_ne_bytes().to_vec()));
    }
    Ok(())
}
