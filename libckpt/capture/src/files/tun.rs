//! /dev/net/tun: queues of TUN and TAP interfaces.
use super::{Context, FoundFile, path};
use crate::error::CaptureResult;
use crate::namespaces::{Tun, tun_interface};
use ckpt_image::record::{FileKindV1, TunInterfaceV1, TunQueueV1, TunV1};
use ckpt_sys::SysError;
use ckpt_sys::namespace::{self, Namespace};
use ckpt_sys::tun::{self, Number, flag};
use nix::sys::stat::fstat;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

/// Of the misc devices, major 10.
const DEVICE: u64 = libc::makedev(10, 200);
const CLOSE: &str = "Close it before saving";

/// Whether a description is one of /dev/net/tun.
pub(super) fn is_tun(file: &FoundFile) -> bool {
    let is_handle = file.info.flags & libc::O_PATH.unsigned_abs() != 0;
    file.meta.rdev() == DEVICE && file.meta.mode() & libc::S_IFMT == libc::S_IFCHR && !is_handle
}

/// Saves a description of /dev/net/tun, and the interface that it is a queue of. Packets that have not been read are left out.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let fd = file.dup();
    let is_gone = file.link.ends_with(b" (deleted)");
    let path = if is_gone { path::name(context, file)? } else { file.link.clone() };
    let Some((name, flags)) = tun::attached(fd)? else {
        return Ok(FileKindV1::Tun(Box::new(TunV1 { path, queue: None })));
    };
    let refuse = |reason: String, remedy: &str| Err(context.unsupported(file, reason, remedy));
    let here = inode(namespace::open_own(Namespace::Net)?.as_fd())?;
    let opened = inode(tun::namespace(fd)?.as_fd())?;
    let placed = inode(tun::interface_namespace(fd)?.as_fd())?;
    if opened != here || placed != here {
        let reason = format!(
            "its interface {name} is in network namespace net:[{placed}], it was opened in net:[{opened}], and the job is in net:[{here}]"
        );
        return refuse(
            reason,
            "Let the program open it where the interface is (setns), or close it before saving",
        );
    }
    let Some(Tun { interface, plain, retyped }) = tun_interface(&name)? else {
        return refuse(format!("its interface {name} is not told by rtnetlink"), CLOSE);
    };
    if retyped {
        let reason =
            format!("its interface {name} has another hardware type than new ones have (TUNSETLINK)");
        return refuse(reason, CLOSE);
    }
    // The flag has two meanings: asked for, it is NO_PI; told, it is NOFILTER.
    let no_filter = flags & flag::NO_PI != 0;
    if flags & flag::TAP != 0 && tun::filter_length(fd)? != 0 && (plain || !no_filter) {
        return refuse(
            format!(
                "its interface {name} has or had a filter (TUNATTACHFILTER), which the kernel does not show"
            ),
            CLOSE,
        );
    }
    let interface = TunInterfaceV1 {
        send_buffer: tun::number(fd, Number::SendBuffer)?,
        header_size: tun::number(fd, Number::HeaderSize)?,
        little_endian: tun::number(fd, Number::LittleEndian)? != 0,
        ..interface
    };
    let told_only = flag::PERSIST | flag::DETACH | flag::NO_PI;
    let flags_made = flags & !told_only | if plain { flag::NO_PI } else { 0 };
    let queue = TunQueueV1 { flags: flags_made, detached: flags & flag::DETACH != 0, interface };
    Ok(FileKindV1::Tun(Box::new(TunV1 { path, queue: Some(queue) })))
}

fn inode(namespace: BorrowedFd<'_>) -> CaptureResult<u64> {
    let stat = fstat(namespace).map_err(|errno| SysError::new("fstat", "a network namespace", errno))?;
    Ok(stat.st_ino)
}
