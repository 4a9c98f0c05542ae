//! Mappings.
use super::{View, proc_text};
use std::collections::HashMap;

/// One mapping of /proc/PID/smaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vma {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) perms: String,
    pub(super) offset: u64,
    /// Path, or what stands in its place.
    pub(super) name: String,
    inode: String,
    flags: Vec<String>,
}

/// Flags that tracking sets (`uw`), that the kernel keeps for itself (`sd`), that accounting leaves (`ac`), or that a mapping
/// keeps of neighbours which it was merged with (`gu`: where the guards are, a subject checks from inside).
const FLAGS_LEFT_OUT: [&str; 4] = ["uw", "sd", "ac", "gu"];

pub(super) fn look(view: &mut View, pid: i32) {
    let mut objects = Objects::default();
    let mut merged: Vec<(Vma, String)> = Vec::new();
    for vma in read(pid) {
        let object = objects.name(&vma);
        match merged.last_mut() {
            // Neighbours that continue each other are one to the program; the kernel may or may not have merged them.
            Some((last, of)) if *of == object && continues(last, &vma) => last.end = vma.end,
            _ => merged.push((vma, object)),
        }
    }
    for (vma, object) in merged {
        view.set(
            format!("vma {:012x}", vma.start),
            format!("-{:012x} {} {:x} {object} [{}]", vma.end, vma.perms, vma.offset, vma.flags.join(" ")),
        );
    }
}

fn continues(last: &Vma, next: &Vma) -> bool {
    let backed = next.inode != "0";
    last.end == next.start
        && last.perms == next.perms
        && last.flags == next.flags
        && (!backed || last.offset + (next.start - last.start) == next.offset)
}

/// Names for shared memory objects, whose inodes a restore cannot choose: by first appearance.
#[derive(Default)]
struct Objects(HashMap<String, usize>);

impl Objects {
    fn name(&mut self, vma: &Vma) -> String {
        let without_name = ["/memfd:", "/dev/zero", "[anon_shmem", "anon_inode:", "socket:["]
            .iter()
            .any(|prefix| vma.name.starts_with(prefix))
            || vma.name.ends_with(" (deleted)");
        if !without_name || vma.inode == "0" {
            return format!("{} {}", vma.inode, vma.name);
        }
        let next = self.0.len();
        let number = *self.0.entry(vma.inode.clone()).or_insert(next);
        // A deleted file's path may carry a number that the restore chose, a socket's name does.
        let name = vma.name.split(" (deleted)").next().unwrap_or_default();
        let name = name.split(":[").next().unwrap_or_default();
        format!("object {number} {name}")
    }
}

/// The mappings of a process by rising address.
pub(super) fn read(pid: i32) -> Vec<Vma> {
    let mut vmas: Vec<Vma> = Vec::new();
    for line in proc_text(pid, "smaps").lines() {
        let first = line.split(' ').next().unwrap_or_default();
        if let Some((start, end)) = first.split_once('-') {
            let mut words = line.splitn(6, ' ');
            let mut word = || words.nth(1).unwrap_or_default();
            let perms = word().to_owned();
            let mut words = line.split_whitespace().skip(2);
            let offset = u64::from_str_radix(words.next().unwrap_or("0"), 16).expect("an offset");
            let inode = words.nth(1).unwrap_or("0").to_owned();
            let name = words.collect::<Vec<_>>().join(" ");
            let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).expect("an address"));
            vmas.push(Vma { start, end, perms, offset, name, inode, flags: Vec::new() });
        } else if let Some(flags) = line.strip_prefix("VmFlags:") {
            let vma = vmas.last_mut().expect("a mapping before its flags");
            vma.flags =
                flags.split_whitespace().filter(|f| !FLAGS_LEFT_OUT.contains(f)).map(str::to_owned).collect();
        }
    }
    vmas
}
