//! Tracked connections.
use crate::error::CaptureResult;
use ckpt_sys::conntrack::{self, HEAD};
use ckpt_sys::rtnetlink::{attribute, attributes, push};
use nix::errno::Errno;

/// CTA_*, and below them CTA_TUPLE_*, CTA_IP_* and CTA_PROTO_*.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
/// PROTOINFO, HELP, TIMEOUT, MARK, SEQ_ADJ_ORIG and _REPLY, ZONE, LABELS, SYNPROXY.
const KEPT: [u16; 9] = [4, 5, 7, 8, 15, 16, 18, 22, 24];
const MASTER: u16 = 14;
const ADDRESSES: u16 = 1;
const PROTOCOL: u16 = 2;
/// Source and destination of IPv4 and IPv6.
const SOURCES: [u16; 2] = [1, 3];
const DESTINATIONS: [u16; 2] = [2, 4];
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const NESTED: u16 = 0x8000;
/// IPS_EXPECTED and IPS_DYING.
const NOT_MADE: u32 = 1 << 0 | 1 << 9;

/// The connections that this thread's network namespace tracks, as messages that make them again. Those whose addresses are translated, and those that were expected by
/// another, are left out.
pub(super) fn capture() -> CaptureResult<Vec<Vec<u8>>> {
    match conntrack::dump() {
        // A kernel without them, or no privilege to see them.
        Err(error)
            if matches!(
                error.errno(),
                Some(Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EINVAL | Errno::EPERM)
            ) =>
        {
            Ok(Vec::new())
        }
        messages => Ok(messages?.iter().filter_map(|message| made_of(message)).collect()),
    }
}

/// What makes a connection again.
fn made_of(message: &[u8]) -> Option<Vec<u8>> {
    let rest = message.get(HEAD..)?;
    let (original, reply) = (attribute(rest, ORIGINAL)?, attribute(rest, REPLY)?);
    let status =
        attribute(rest, STATUS).and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)))?;
    if attribute(rest, MASTER).is_some() || ends(original) != mirrored(reply) {
        return None;
    }
    let mut made = message[..HEAD].to_vec();
    push(&mut made, ORIGINAL | NESTED, original);
    push(&mut made, REPLY | NESTED, reply);
    push(&mut made, STATUS, &(status & !NOT_MADE).to_be_bytes());
    for (kind, value) in attributes(rest).filter(|(kind, _)| KEPT.contains(kind)) {
        // PROTOINFO, HELP, SEQ_ADJ_ORIG, SEQ_ADJ_REPLY and SYNPROXY have attributes within.
        let nested = if matches!(kind, 4 | 5 | 15 | 16 | 24) { NESTED } else { 0 };
        push(&mut made, kind | nested, value);
    }
    Some(made)
}

/// Source and destination of a tuple, addresses and ports.
type Ends<'a> = [Option<&'a [u8]>; 4];

fn ends(tuple: &[u8]) -> Ends<'_> {
    let (addresses, protocol) =
        (attribute(tuple, ADDRESSES).unwrap_or_default(), attribute(tuple, PROTOCOL).unwrap_or_default());
    let address = |kinds: [u16; 2]| kinds.into_iter().find_map(|kind| attribute(addresses, kind));
    [
        address(SOURCES),
        address(DESTINATIONS),
        attribute(protocol, SOURCE_PORT),
        attribute(protocol, DESTINATION_PORT),
    ]
}

/// As the other side has them.
fn mirrored(tuple: &[u8]) -> Ends<'_> {
    let [source, destination, source_port, destination_port] = ends(tuple);
    [destination, source, destination_port, source_port]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(source: u8, destination: u8, ports: (u8, u8)) -> Vec<u8> {
        let (mut addresses, mut protocol, mut tuple) = (Vec::new(), Vec::new(), Vec::new());
        push(&mut addresses, 1, &[10, 0, 0, source]);
        push(&mut addresses, 2, &[10, 0, 0, destination]);
        push(&mut protocol, 1, &[6]);
        push(&mut protocol, SOURCE_PORT, &[0, ports.0]);
        push(&mut protocol, DESTINATION_PORT, &[0, ports.1]);
        push(&mut tuple, ADDRESSES, &addresses);
        push(&mut tuple, PROTOCOL, &protocol);
        tuple
    }

    fn message(reply: &[u8]) -> Vec<u8> {
        let mut message = vec![2, 0, 0, 0];
        push(&mut message, ORIGINAL, &tuple(1, 2, (3, 4)));
        push(&mut message, REPLY, reply);
        push(&mut message, STATUS, &[0, 0, 2, 0x8f]);
        push(&mut message, 7, &[0, 0, 0, 9]);
        push(&mut message, 12, &[0, 0, 0, 77]);
        message
    }

    #[test]
    fn a_connection_is_made_of_what_can_be_set() {
        let made = made_of(&message(&tuple(2, 1, (4, 3)))).unwrap();
        let rest = &made[HEAD..];
        assert_eq!(attribute(rest, ORIGINAL), Some(tuple(1, 2, (3, 4)).as_slice()));
        assert_eq!(attribute(rest, STATUS), Some([0, 0, 0, 0x8e].as_slice()));
        assert_eq!(attribute(rest, 7), Some([0, 0, 0, 9].as_slice()));
        assert_eq!(attribute(rest, 12), None);
    }

    #[test]
    fn translated_ones_are_left_out() {
        assert_eq!(made_of(&message(&tuple(2, 9, (4, 3)))), None);
        assert_eq!(made_of(&message(&tuple(2, 1, (4, 5)))), None);
    }
}
