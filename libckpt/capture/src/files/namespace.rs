//! Descriptors of namespaces, as /proc/PID/ns has them (nsfs).
use super::{Context, FoundFile};
use crate::error::CaptureResult;
use ckpt_image::record::FileKindV1;
use ckpt_sys::namespace::Namespace;
use ckpt_sys::proc;
use std::os::unix::ffi::OsStrExt;

/// Files of /proc/PID/ns beside those of the namespaces that a process is in itself: those that its children are born in.
const OF_CHILDREN: [&str; 2] = ["pid_for_children", "time_for_children"];

/// Whether a link is one of a namespace without a path, `net:[4026531833]` for example.
pub(super) fn is_namespace(link: &[u8]) -> bool {
    let kind = link.split(|byte| *byte == b':').next().unwrap_or_default();
    link.ends_with(b"]") && Namespace::ALL.iter().any(|namespace| namespace.name().as_bytes() == kind)
}

/// Saves a descriptor of a namespace that a process of the job, or its children, are in.
pub(super) fn describe(context: &mut Context<'_>, file: &FoundFile) -> CaptureResult<FileKindV1> {
    let holder = context.index.holder(file);
    let own: Vec<_> = Namespace::ALL.iter().map(|namespace| namespace.name()).collect();
    // Those of children last: a restore gives them to a process when others have theirs.
    for names in [&own[..], &OF_CHILDREN[..]] {
        for pid in std::iter::once(holder).chain(context.index.members()) {
            for name in names {
                // A kernel without namespaces of a kind has no link for them.
                let link = proc::read_link(pid, &format!("ns/{name}"));
                if link.is_ok_and(|link| link.as_os_str().as_bytes() == file.link) {
                    return Ok(FileKindV1::Namespace { pid, name: (*name).to_owned() });
                }
            }
        }
    }
    Err(context.unsupported(
        file,
        "it stands for a namespace that no process of the job is in",
        "Close it before saving, or let the program open it by a name (a bind mount, such as those of ip netns)",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_namespaces() {
        assert!(is_namespace(b"net:[4026531833]") && is_namespace(b"mnt:[1]"));
        assert!(!is_namespace(b"socket:[7]") && !is_namespace(b"/run/netns/net:x"));
    }
}
