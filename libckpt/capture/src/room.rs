//! How much memory is left for a process.
use ckpt_sys::proc;
use std::path::Path;

/// Where control groups are, and what the files of their limits and of what they have taken are called.
struct Hierarchy {
    place: &'static str,
    limits: &'static [&'static str],
    taken: &'static str,
}

/// Version 1. Without a limit it names one that no machine has.
const OF_MEMORY: Hierarchy = Hierarchy {
    place: "/sys/fs/cgroup/memory",
    limits: &["memory.limit_in_bytes"],
    taken: "memory.usage_in_bytes",
};
/// Version 2. The one limit kills, the other slows down; without one it says so in a word.
const UNIFIED: Hierarchy =
    Hierarchy { place: "/sys/fs/cgroup", limits: &["memory.max", "memory.high"], taken: "memory.current" };

impl Hierarchy {
    /// What `group`, a path from the root, and each above it leave. None: it is not to be seen from here.
    fn left(&self, group: &str) -> Option<Vec<u64>> {
        let at = Path::new(self.place).join(group.trim_start_matches('/'));
        if !at.is_dir() {
            return None;
        }
        let number = |group: &Path, name: &str| -> Option<u64> {
            std::fs::read_to_string(group.join(name)).ok()?.trim().parse().ok()
        };
        let left = |group: &Path| {
            let most = self.limits.iter().filter_map(|name| number(group, name)).min()?;
            Some(most.saturating_sub(number(group, self.taken)?))
        };
        Some(at.ancestors().take_while(|path| path.starts_with(self.place)).filter_map(left).collect())
    }
}

/// Bytes that process `pid` may still come to take: what the machine has, and what each control group leaves that it is in. None: it cannot be told.
pub(crate) fn room(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let available = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.strip_suffix("kB"))?;
    let available = available.trim().parse::<u64>().ok()? << 10;
    let groups = proc::read_text(pid, "cgroup").ok()?;
    let left = match group_of_memory(&groups) {
        Some((hierarchy, group)) => hierarchy.left(group)?,
        None => Vec::new(),
    };
    left.into_iter().chain([available]).min()
}

/// The group that limits the memory of a process with these `groups`, as /proc/PID/cgroup has them.
fn group_of_memory(groups: &str) -> Option<(&'static Hierarchy, &str)> {
    // NUMBER:CONTROLLERS:PATH
    let fields = || groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let of_memory = fields().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
    let unified = || fields().find(|(controllers, _)| controllers.is_empty());
    let of_memory = of_memory.map(|(_, path)| (&OF_MEMORY, path));
    of_memory.or_else(|| unified().map(|(_, path)| (&UNIFIED, path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_that_counts() {
        let of = |groups: &'static str| group_of_memory(groups).map(|(found, path)| (found.place, path));
        assert_eq!(of("0::/user.slice/x\n"), Some((UNIFIED.place, "/user.slice/x")));
        assert_eq!(of("5:hugetlb,memory:/a:b\n4:cpu:/c\n0::/c\n"), Some((OF_MEMORY.place, "/a:b")));
        assert_eq!(of("4:cpu:/c\n"), None);
        assert_eq!(UNIFIED.left("/there/is/no/such/group"), None);
    }

    #[test]
    fn there_is_some() {
        let own = i32::try_from(std::process::id()).unwrap();
        // None where this machine limits memory in another way.
        assert!(room(own).is_none_or(|bytes| bytes < 1 << 60));
    }
}
