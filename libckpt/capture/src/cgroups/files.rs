//! The files of a control group that say what is set for it.
use ckpt_image::record::CgroupFileV1;
use ckpt_sys::cgroup::Hierarchy;
use std::os::unix::fs::MetadataExt;

const WRITE_BITS: u32 = 0o222;
const READ_BITS: u32 = 0o444;
/// Files that can be written, and that do something or count something: what they say is not what was written.
const NOT_SETTINGS: [&str; 12] = [
    "cgroup.procs",
    "cgroup.threads",
    "tasks",
    "cgroup.kill",
    "cgroup.event_control",
    "cgroup.freeze",
    "freezer.state",
    "cpuacct.usage",
    // The same as cpu.weight.
    "cpu.weight.nice",
    "memory.pressure_level",
    "memory.reclaim",
    "release_agent",
];
const NOT_SETTINGS_ENDS: [&str; 5] = [".pressure", ".peak", "failcnt", "max_usage_in_bytes", "force_empty"];
/// It says what devices.allow and devices.deny have been told.
const DEVICES: &str = "devices.list";
const CONTROLLERS: &str = "cgroup.subtree_control";

/// Those of a group. Of one that others use, too, only what groups below it depend on.
pub(super) fn capture(hierarchy: &Hierarchy, group: &[u8], own: bool) -> Vec<CgroupFileV1> {
    let Some(directory) = hierarchy.directory(group) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let one = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        if !own && name != CONTROLLERS || metadata.mode() & WRITE_BITS == 0 && name != DEVICES {
            return None;
        }
        let is_setting = metadata.mode() & READ_BITS != 0 && is_setting(&name);
        let value = if is_setting { read(hierarchy, group, &name) } else { None };
        let owner = (metadata.uid(), metadata.gid());
        Some(CgroupFileV1 { mode: metadata.mode() & 0o7777, owner, value, name })
    };
    let mut files: Vec<_> = entries.filter_map(one).collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

fn is_setting(name: &str) -> bool {
    let ends = NOT_SETTINGS_ENDS.iter().any(|end| name.ends_with(end));
    !NOT_SETTINGS.contains(&name) && (!ends || name == "cgroup.pressure")
}

/// What is to be written to set it again.
fn read(hierarchy: &Hierarchy, group: &[u8], name: &str) -> Option<String> {
    match hierarchy.read(group, name) {
        Ok(text) => text.map(|text| setting(name, text.trim_end())),
        Err(error) => {
            tracing::warn!(%error, "the setting is not saved");
            None
        }
    }
}

fn setting(name: &str, text: &str) -> String {
    let word = |number: usize| text.split_ascii_whitespace().nth(number).unwrap_or_default().to_owned();
    match name {
        // `oom_kill_disable 1`, and what has come of it.
        "memory.oom_control" => word(1),
        // `root invalid (...)`
        "cpuset.cpus.partition" => word(0),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_setting() {
        assert!(
            ["cpu.max", "cgroup.pressure", "memory.limit_in_bytes", "pids.max"].into_iter().all(is_setting)
        );
        assert!(!["tasks", "cpu.pressure", "memory.failcnt", "memory.swap.peak"].into_iter().any(is_setting));
        assert_eq!(setting("memory.oom_control", "oom_kill_disable 1\nunder_oom 0"), "1");
        assert_eq!(setting("cpuset.cpus.partition", "root invalid (x)"), "root");
        assert_eq!(setting("io.max", "8:0 rbps=1 wbps=max"), "8:0 rbps=1 wbps=max");
    }
}
