//! Tracked connections.
use ckpt_sys::conntrack::{self, HEAD};
use ckpt_sys::rtnetlink::{attributes, push};

/// CTA_PROTOINFO, CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL and _REPLY.
const PROTOCOL: u16 = 4;
const TCP: u16 = 1;
const FLAGS: [u16; 2] = [4, 5];
const NESTED: u16 = 0x8000;

/// Has this thread's network namespace track connections again.
pub(super) fn make(messages: &[Vec<u8>]) {
    for message in messages {
        let head = HEAD.min(message.len());
        let mut made = message[..head].to_vec();
        made.extend(with_masks(&message[head..]));
        if let Err(error) = conntrack::make(&made) {
            tracing::warn!(%error, "a connection is not tracked any more");
        }
    }
}

/// With masks that say that all flags of TCP count: the kernel tells none.
fn with_masks(bytes: &[u8]) -> Vec<u8> {
    changed(bytes, PROTOCOL, |info| {
        changed(info, TCP, |tcp| {
            let mut made = Vec::new();
            for (kind, value) in attributes(tcp) {
                match value {
                    [flags, _] if FLAGS.contains(&kind) => push(&mut made, kind, &[*flags, u8::MAX]),
                    _ => push(&mut made, kind, value),
                }
            }
            made
        })
    })
}

/// Attributes, with the contents of those of one kind changed. What has attributes within is marked so.
fn changed(bytes: &[u8], wanted: u16, change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut made = Vec::new();
    let mut rest = bytes;
    while let Some((kind, value)) = attributes(rest).next() {
        // The type as it stands, with its flags.
        let flagged = u16::from_ne_bytes([rest[2], rest[3]]);
        if kind == wanted {
            push(&mut made, kind | NESTED, &change(value));
        } else {
            push(&mut made, flagged, value);
        }
        rest = rest.get((4 + value.len()).next_multiple_of(4)..).unwrap_or_default();
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use ckpt_sys::rtnetlink::attribute;

    #[test]
    fn all_flags_count() {
        let (mut tcp, mut info, mut message) = (Vec::new(), Vec::new(), Vec::new());
        push(&mut tcp, 1, &[3]);
        push(&mut tcp, 4, &[0x0b, 0]);
        push(&mut info, TCP | NESTED, &tcp);
        push(&mut message, 1 | NESTED, &[1, 2, 3, 4]);
        push(&mut message, PROTOCOL | NESTED, &info);
        push(&mut message, 7, &[0, 0, 0, 9]);
        let made = with_masks(&message);
        assert_eq!(made.len(), message.len());
        let tcp = attribute(attribute(&made, PROTOCOL).unwrap(), TCP).unwrap();
        assert_eq!(
            (attribute(tcp, 1), attribute(tcp, 4)),
            (Some([3].as_slice()), Some([0x0b, 0xff].as_slice()))
        );
        assert_eq!(made[..8], message[..8]);
        assert_eq!(attribute(&made, 7), Some([0, 0, 0, 9].as_slice()));
    }
}
