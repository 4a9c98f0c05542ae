//! Mounts as a process sees them.
use std::collections::BTreeMap;
use std::fs;

/// The mounts that process `pid` sees, a line for each, without what is another at each mount: their numbers and those of devices. Groups of mounts
/// that tell each other of changes are numbered anew.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn view(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mountinfo");
    let mut lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split(' ').skip(3).collect::<Vec<_>>()).collect();
    lines.sort_by_key(|words| (words[1], words[0]));
    let mut groups = BTreeMap::new();
    let mut word = |word: &str| match word.split_once(':') {
        Some((tag @ ("shared" | "master"), group)) => {
            let next = groups.len();
            format!("{tag}:{}", groups.entry(group.to_owned()).or_insert(next))
        }
        _ => word.to_owned(),
    };
    let mut renamed = |words: Vec<&str>| words.into_iter().map(&mut word).collect::<Vec<_>>().join(" ");
    lines.into_iter().map(&mut renamed).collect()
}
