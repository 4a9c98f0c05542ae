//! A job whose control groups are to be others than they were.
use ckpt_image::record::{CgroupHierarchyV1, CgroupV1};
use std::collections::BTreeMap;

/// The group below which a job's groups go: `[HIERARCHY:]PATH`, with the hierarchy as /proc/PID/cgroup names it; without: all hierarchies.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CgroupRoot {
    hierarchy: Option<String>,
    path: String,
}

impl std::str::FromStr for CgroupRoot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (hierarchy, path) = match text.split_once(":/") {
            Some((hierarchy, path)) => (Some(hierarchy.to_owned()), format!("/{path}")),
            None => (None, text.to_owned()),
        };
        let path = path.trim_end_matches('/');
        let is_plain = |word: &str| !word.is_empty() && word != "." && word != "..";
        match path.strip_prefix('/') {
            Some(rest) if rest.split('/').all(is_plain) => Ok(Self { hierarchy, path: path.to_owned() }),
            None if path.is_empty() => Ok(Self { hierarchy, path: String::new() }),
            _ => Err(format!("{text} is no control group: /PATH or HIERARCHY:/PATH")),
        }
    }
}

/// What a hierarchy's groups, and those in which `further` namespaces begin, are called then.
pub(super) fn below(
    mut hierarchy: CgroupHierarchyV1,
    mut further: BTreeMap<usize, Vec<u8>>,
    roots: &[CgroupRoot],
) -> (CgroupHierarchyV1, BTreeMap<usize, Vec<u8>>) {
    let named = |root: &&CgroupRoot| root.hierarchy.as_ref().is_some_and(|name| *name == hierarchy.name);
    let root = roots.iter().find(named).or_else(|| roots.iter().find(|root| root.hierarchy.is_none()));
    let Some(root) = root.map(|root| root.path.as_bytes()).filter(|path| !path.is_empty()) else {
        return (hierarchy, further);
    };
    let rename = |path: &mut Vec<u8>| {
        let rest = path.strip_suffix(b"/").unwrap_or(path);
        *path = [root, rest].concat();
    };
    hierarchy.groups.iter_mut().for_each(|group| rename(&mut group.path));
    hierarchy.members.iter_mut().for_each(|members| rename(&mut members.path));
    hierarchy.namespace_root.iter_mut().chain(further.values_mut()).for_each(rename);
    let ends = root.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).skip(1);
    let leading = ends.chain([root.len()]).map(|end| plain(&root[..end]));
    hierarchy.groups = leading.chain(hierarchy.groups).collect();
    (hierarchy, further)
}

/// A group for which nothing is set.
fn plain(path: &[u8]) -> CgroupV1 {
    CgroupV1 { path: path.to_vec(), own: true, mode: 0o755, owner: (0, 0), frozen: false, files: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ckpt_image::record::CgroupMembersV1;

    #[test]
    fn groups_go_below_another() {
        let roots: Vec<CgroupRoot> = ["/x/y", "name=a:/z"].iter().map(|text| text.parse().unwrap()).collect();
        let hierarchy = |name: &str| CgroupHierarchyV1 {
            name: name.into(),
            namespace_root: Some(b"/".to_vec()),
            groups: vec![plain(b"/g")],
            members: vec![CgroupMembersV1 { path: b"/g".to_vec(), threads: Vec::new() }],
        };
        let further = BTreeMap::from([(3, b"/g".to_vec())]);
        let (moved, further) = below(hierarchy("memory"), further, &roots);
        assert_eq!(further[&3], b"/x/y/g");
        let paths: Vec<_> = moved.groups.iter().map(|group| group.path.as_slice()).collect();
        assert_eq!(paths, [&b"/x"[..], b"/x/y", b"/x/y/g"]);
        assert_eq!(moved.members[0].path, b"/x/y/g");
        assert_eq!(moved.namespace_root.unwrap(), b"/x/y");
        assert_eq!(below(hierarchy("name=a"), BTreeMap::new(), &roots).0.members[0].path, b"/z/g");
        assert_eq!(below(hierarchy("name=a"), BTreeMap::new(), &[]).0, hierarchy("name=a"));
        assert!("x".parse::<CgroupRoot>().is_err() && "/a/../b".parse::<CgroupRoot>().is_err());
    }
}
