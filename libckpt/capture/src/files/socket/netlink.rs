//! Netlink sockets.
use super::{filter, options};
use crate::error::CaptureResult;
use crate::files::{Context, FoundFile};
use ckpt_image::record::{FileKindV1, SocketStateV1, SocketV1};
use ckpt_sys::netlink::{self, NETLINK_ADD_MEMBERSHIP, SOL_NETLINK};
use ckpt_sys::{proc, socket};

/// What a socket may be registered with by a message, by file of /proc/PID/net: a line for each, with the port in its second column.
const REGISTRATIONS: [(&str, &str); 2] =
    [("nfnetlink_queue", "a queue of packets (NFQUEUE)"), ("nfnetlink_log", "a log of packets (NFLOG)")];

/// Saves a netlink socket.
pub(super) fn describe(
    context: &mut Context<'_>,
    file: &FoundFile,
    mut record: SocketV1,
) -> CaptureResult<FileKindV1> {
    let fd = file.dup();
    // struct sockaddr_nl: family, pad, port, groups.
    let local = socket::local_name(fd)?;
    let word = |name: &[u8], at: usize| {
        name.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
    };
    let port = word(&local, 4);
    check_registered(context, file, record.protocol, port)?;
    check_quiet(context, file, &record)?;
    if port != 0 {
        // The groups are joined by number, which the address has only up to 32.
        record.local = local;
        if let Some(groups) = record.local.get_mut(8..12) {
            groups.fill(0);
        }
    }
    record.options = options::read_options(fd, &record)?;
    filter::add(context, file, &mut record)?;
    for group in netlink::groups(fd)? {
        record.options.push((SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group.to_ne_bytes().to_vec()));
    }
    let peer = socket::peer_name(fd)?.unwrap_or_default();
    if word(&peer, 4) != 0 || word(&peer, 8) != 0 {
        record.state = SocketStateV1::ConnectedTo { address: peer };
    }
    Ok(FileKindV1::Socket(Box::new(record)))
}

/// Refuses a socket with messages: only the kernel could send them again.
fn check_quiet(context: &Context<'_>, file: &FoundFile, record: &SocketV1) -> CaptureResult<()> {
    let waits = socket::ready(file.dup()) & (libc::POLLIN | libc::POLLERR) != 0;
    if waits || netlink::is_being_answered(record.protocol, record.inode)? {
        return Err(context.unsupported(
            file,
            "netlink messages wait in it to be read, which cannot be saved",
            "Try again when the program has read them",
        ));
    }
    Ok(())
}

/// Refuses a socket that the kernel knows in a subsystem, which it would have to be told of again.
fn check_registered(context: &Context<'_>, file: &FoundFile, protocol: i32, port: u32) -> CaptureResult<()> {
    if protocol != libc::NETLINK_NETFILTER || port == 0 {
        return Ok(());
    }
    for (table, what) in REGISTRATIONS {
        let text = proc::read_text(context.index.holder(file), &format!("net/netfilter/{table}"));
        let has_it = |line: &str| {
            let port_of = line.split_ascii_whitespace().nth(1).and_then(|word| word.parse::<i64>().ok());
            port_of.is_some_and(|of| of == i64::from(port) || of == i64::from(port.cast_signed()))
        };
        if text.unwrap_or_default().lines().any(has_it) {
            return Err(context.unsupported(
                file,
                format!("it receives {what}, which the kernel would have to be asked for again"),
                "Close it before saving",
            ));
        }
    }
    Ok(())
}
