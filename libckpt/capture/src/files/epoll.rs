//! epoll(7).
use super::{Context, FoundFile};
use crate::error::CaptureResult;
use ckpt_image::record::{EpollTargetV1, FileKindV1};
use ckpt_sys::proc::malformed;
use std::collections::BTreeMap;

/// An entry as fdinfo has it.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    fd: i32,
    events: u32,
    data: u64,
}

/// Saves an epoll set.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let mut targets = Vec::new();
    let mut seen: BTreeMap<i32, u32> = BTreeMap::new();
    for line in file.info.lines("tfd:") {
        let entry =
            parse(line).ok_or_else(|| malformed("parse of an epoll entry", context.index.holder(file)))?;
        // Several entries have one number when a descriptor was closed, its description lives on elsewhere, and the number was used
        // again. They need not follow each other; kcmp(2) counts them in the order that fdinfo has.
        let count = seen.entry(entry.fd).or_insert(0);
        let offset = std::mem::replace(count, *count + 1);
        let Some(target) = context.index.epoll_target(file.place, entry.fd, offset)? else {
            return Err(context.unsupported(
                file,
                format!(
                    "it watches descriptor {}, which the job has closed while another process keeps it open",
                    entry.fd
                ),
                "Close it in the other process, or remove it from the set (EPOLL_CTL_DEL) before closing it",
            ));
        };
        targets.push(EpollTargetV1 { fd: entry.fd, file: target, events: entry.events, data: entry.data });
    }
    Ok(FileKindV1::Epoll { targets })
}

/// Reads what follows `tfd:`.
fn parse(line: &str) -> Option<Entry> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let value = |name: &str| {
        let at = words.iter().position(|word| word.trim_end_matches(':') == name)?;
        words.get(at + 1).copied()
    };
    Some(Entry {
        fd: words.first()?.parse().ok()?,
        events: u32::from_str_radix(value("events")?, 16).ok()?,
        data: u64::from_str_radix(value("data")?, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry() {
        let line = "       5 events:       1d data: ffffffffffffffff  pos:0 ino:61af sdev:7";
        assert_eq!(parse(line).unwrap(), Entry { fd: 5, events: 0x1d, data: u64::MAX });
    }
}
