//! AF_UNIX sockets whose other end is outside the job: as the user wants it.
use crate::error::CaptureResult;
use crate::files::{Context, FoundFile, stdio};
use crate::unix_peers::UnixPeers;
use ckpt_image::record::{FileKindV1, SocketStateV1, SocketV1};
use ckpt_sys::socket;

/// The state that a socket is saved in whose peer is outside and has the link `peer` in /proc; an error in the result: it is saved as the standard descriptor
/// that it is.
pub(super) fn describe(
    context: &mut Context<'_>,
    file: &FoundFile,
    record: &SocketV1,
    peer: &[u8],
) -> CaptureResult<Result<SocketStateV1, FileKindV1>> {
    let address = socket::peer_name(file.dup())?.unwrap_or_default();
    let choice = context.objects.as_ref().map_or(UnixPeers::Refuse, |objects| objects.unix_peers);
    let is_standard = stdio::is_standard(context, file);
    match choice {
        UnixPeers::Eof if !is_standard => return Ok(Ok(SocketStateV1::PeerClosed { reset: false })),
        UnixPeers::Reconnect if !is_standard && is_reachable(&address) => {
            return Ok(Ok(SocketStateV1::ConnectedTo { address }));
        }
        _ => {}
    }
    let name = show(&address);
    let reason = |context: &Context<'_>| {
        let holder = stdio::other_holder(context, peer);
        let to = if name.is_empty() { "a socket without a name".into() } else { name.clone() };
        format!("it is connected to {to} outside the job{holder}")
    };
    let remedy = if !is_reachable(&address) || record.kind == libc::SOCK_DGRAM {
        "Close the connection before saving, or save with --unix-peer eof: restored, the program finds it closed"
    } else {
        "Close the connection before saving, or save with --unix-peer eof (restored, the program finds it closed) or --unix-peer \
         reconnect (it is connected there anew)"
    };
    stdio::describe(context, file, reason, remedy).map(Err)
}

/// Whether there is a name that leads there from everywhere: an absolute path, or an abstract one.
fn is_reachable(address: &[u8]) -> bool {
    matches!(address.get(2..), Some([b'/', ..] | [0, _, ..]))
}

/// A name as people write it: abstract ones with an @.
fn show(address: &[u8]) -> String {
    let name = String::from_utf8_lossy(address.get(2..).unwrap_or_default()).into_owned();
    match name.strip_prefix('\0') {
        Some(rest) => format!("@{rest}"),
        None => name.trim_end_matches('\0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(show(b"\x01\0/run/x\0"), "/run/x");
        assert_eq!(show(b"\x01\0\0bus"), "@bus");
        assert!(is_reachable(b"\x01\0/run/x\0") && is_reachable(b"\x01\0\0bus"));
        assert!(!is_reachable(b"\x01\0run/x\0") && !is_reachable(b"") && !is_reachable(b"\x01\0"));
    }
}
