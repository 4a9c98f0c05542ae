//! In which order the processes of a job are made, so that each ends up with its parent, session and process group.
//!
//! A process is born into the session of whoever makes it, and can leave it for one of its own only. So children that are in the session that
//! their parent was born into are made before the parent leaves it; a process whose session is not one of its parent's is the orphan of one that
//! was, and is made as such: by a helper that ends, under a subreaper. So are those that have no parent in the job: who adopts them is whoever
//! adopts the root's children. A session or group whose leader has ended gets a helper in its place for the time.
//!
//! A process cannot name a group that has no id in its PID namespace. If it is in one, it was born into it: the first process of the namespace is put into
//! that group by its parent before it has children.
use crate::inner_pids::InnerPids;
use std::collections::{BTreeMap, BTreeSet};

/// A process that is to be there in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Being {
    /// Its pid.
    pub(crate) pid: i32,
    /// Its parent; 0: for the root, the restoring process; for others, whoever adopts orphans of the root's.
    pub(crate) ppid: i32,
    /// Process group.
    pub(crate) pgid: i32,
    /// Session.
    pub(crate) sid: i32,
}

/// One step. Pid 0 is the restoring process; a negative one is a helper whose pid does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make a process.
    Birth { pid: i32, parent: i32 },
    /// It becomes the leader of a session and a group.
    Session { pid: i32 },
    /// It joins a group of its session, or leads a new one of its own pid.
    Group { pid: i32, pgid: i32 },
    /// A process of the job becomes the parent of what its descendants leave behind, or does so no more.
    Subreaper { pid: i32, on: bool },
    /// The helper ends and its parent waits for it.
    End { pid: i32, parent: i32 },
}

/// Session or group of the restoring process.
const OUTSIDE: i32 = 0;

struct Planner<'a> {
    beings: BTreeMap<i32, &'a Being>,
    children: BTreeMap<i32, Vec<&'a Being>>,
    root: &'a Being,
    /// Those without a parent in the job.
    strays: Vec<&'a Being>,
    born: BTreeSet<i32>,
    /// Children that cannot be made by their parent, and the session that they need.
    orphans: Vec<(&'a Being, i32)>,
    /// Sessions whose leaders have ended, and the parents of the helpers that stand in for them.
    stand_ins: Vec<(i32, i32)>,
    helpers: i32,
    pids: &'a InnerPids,
    /// Groups that are made before all processes are there.
    early: BTreeSet<i32>,
    /// Helpers that stand in for the leaders of such, and their parents.
    early_helpers: Vec<(i32, i32)>,
    steps: Vec<Step>,
    /// Why there is no plan.
    failed: Option<String>,
}

/// The steps that make `beings`, the root of the job first among them; or why there are none.
pub(crate) fn plan(beings: &[Being], pids: &InnerPids) -> Result<Vec<Step>, String> {
    let root = beings.first().ok_or("it holds no process")?;
    let mut children: BTreeMap<i32, Vec<&Being>> = BTreeMap::new();
    for being in beings.iter().filter(|being| being.ppid != 0) {
        children.entry(being.ppid).or_default().push(being);
    }
    let mut planner = Planner {
        beings: beings.iter().map(|being| (being.pid, being)).collect(),
        children,
        root,
        strays: beings[1..].iter().filter(|being| being.ppid == 0).collect(),
        born: BTreeSet::new(),
        orphans: Vec::new(),
        stand_ins: Vec::new(),
        helpers: 0,
        pids,
        early: BTreeSet::new(),
        early_helpers: Vec::new(),
        steps: Vec::new(),
        failed: None,
    };
    planner.birth(root, 0, OUTSIDE);
    planner.make_orphans()?;
    if let Some(failed) = planner.failed {
        return Err(failed);
    }
    if let Some(missing) = beings.iter().find(|being| !planner.born.contains(&being.pid)) {
        return Err(format!("process {} has parent {}, which is not in it", missing.pid, missing.ppid));
    }
    planner.group();
    Ok(planner.steps)
}

impl<'a> Planner<'a> {
    fn session(&self, being: &Being) -> i32 {
        let outside = being.sid == self.root.sid
            && self.beings.get(&being.sid).is_none_or(|leader| leader.sid != being.sid);
        if outside { OUTSIDE } else { being.sid }
    }

    fn group_of(&self, being: &Being) -> i32 {
        let outside = self.session(being) == OUTSIDE
            && being.pgid == self.root.pgid
            && !self.beings.contains_key(&being.pgid);
        if outside { OUTSIDE } else { being.pgid }
    }

    fn children(&self, pid: i32) -> Vec<&'a Being> {
        self.children.get(&pid).cloned().unwrap_or_default()
    }

    /// The session that a process must be born into; None: any. `offered`: those that its parent can give it.
    fn needs(&self, being: &Being, offered: [i32; 2]) -> Option<i32> {
        let session = self.session(being);
        if session != being.pid {
            return Some(session);
        }
        // One that leads a session was born into that of its oldest children.
        let children = self.children(being.pid);
        children.iter().filter_map(|child| self.needs(child, offered)).find(|need| offered.contains(need))
    }

    /// Makes the children of a process that was born into session `birth`, and theirs.
    fn grow(&mut self, pid: i32, birth: i32) {
        let being = self.beings.get(&pid).copied();
        let session = being.map_or(OUTSIDE, |being| self.session(being));
        let leads = being.is_some_and(|being| session == being.pid);
        let strays = if pid == self.root.pid { std::mem::take(&mut self.strays) } else { Vec::new() };
        let (mut later, mut later_strays) = (Vec::new(), Vec::new());
        for stray in strays {
            match self.needs(stray, [birth, session]) {
                Some(need) if need != session => self.orphans.push((stray, need)),
                _ => later_strays.push(stray),
            }
        }
        for child in self.children(pid) {
            match self.needs(child, [birth, session]) {
                Some(need) if leads && need == birth => self.birth(child, pid, birth),
                Some(need) if need != session => self.orphans.push((child, need)),
                _ => later.push(child),
            }
        }
        if leads {
            self.steps.push(Step::Session { pid });
        }
        for child in later {
            self.birth(child, pid, session);
        }
        for stray in later_strays {
            self.birth_by_helper(stray, pid, session);
        }
    }

    fn birth(&mut self, being: &Being, parent: i32, session: i32) {
        self.steps.push(Step::Birth { pid: being.pid, parent });
        self.born.insert(being.pid);
        self.enter_group(being, parent);
        self.grow(being.pid, session);
    }

    /// Whether a group has no id in the PID namespace of a process that is in it.
    fn is_beyond(&self, being: &Being, group: i32) -> bool {
        self.pids.home(being.pid).is_some_and(|home| !self.pids.knows(home, group))
    }

    /// Puts a process whose parent is in another PID namespace into the group from there that processes of its own namespace are in.
    fn enter_group(&mut self, being: &Being, parent: i32) {
        let Some(home) = self.pids.home(being.pid) else { return };
        if self.pids.home(parent) == Some(home) {
            return;
        }
        let is_member = |other: &&&Being| self.pids.is_in(other.pid, home);
        let members = self.beings.values().filter(is_member);
        let mut groups = members.map(|other| self.group_of(other));
        let Some(group) = groups.find(|group| *group != OUTSIDE && !self.pids.knows(home, *group)) else {
            return;
        };
        let leader = self.beings.get(&group);
        let exists = leader.is_some_and(|leader| self.session(leader) == group)
            || self.stand_ins.iter().any(|(session, _)| *session == group);
        if !exists && self.early.insert(group) {
            match leader {
                Some(_) if self.born.contains(&group) => {}
                Some(_) => {
                    let what = format!("process {} is in group {group}, whose leader is younger", being.pid);
                    self.failed.get_or_insert(what);
                }
                None => {
                    self.steps.push(Step::Birth { pid: group, parent });
                    self.early_helpers.push((group, parent));
                }
            }
            self.steps.push(Step::Group { pid: group, pgid: group });
        }
        self.steps.push(Step::Group { pid: being.pid, pgid: group });
    }

    /// Makes a process as the child of a helper, itself a child of `maker`, which ends.
    fn birth_by_helper(&mut self, being: &Being, maker: i32, session: i32) {
        self.helpers -= 1;
        let (helper, adopter) = (self.helpers, being.ppid);
        if adopter != 0 {
            self.steps.push(Step::Subreaper { pid: adopter, on: true });
        }
        self.steps.push(Step::Birth { pid: helper, parent: maker });
        self.steps.push(Step::Birth { pid: being.pid, parent: helper });
        self.enter_group(being, maker);
        self.steps.push(Step::End { pid: helper, parent: maker });
        if adopter != 0 {
            self.steps.push(Step::Subreaper { pid: adopter, on: false });
        }
        self.born.insert(being.pid);
        self.grow(being.pid, session);
    }

    /// Makes those whose session is not their parent's.
    fn make_orphans(&mut self) -> Result<(), String> {
        while !self.orphans.is_empty() {
            let ready = |session: &i32| !self.beings.contains_key(session) || self.born.contains(session);
            let Some(at) = self.orphans.iter().position(|(_, session)| ready(session)) else {
                let (orphan, session) = self.orphans[0];
                return Err(format!(
                    "process {} is in session {session}, whose leader is its descendant",
                    orphan.pid
                ));
            };
            let (orphan, session) = self.orphans.remove(at);
            let parent = if orphan.ppid == 0 { self.root.pid } else { orphan.ppid };
            if session != OUTSIDE && !self.beings.contains_key(&session) && !self.born.contains(&session) {
                self.steps.push(Step::Birth { pid: session, parent });
                self.steps.push(Step::Session { pid: session });
                self.born.insert(session);
                self.stand_ins.push((session, parent));
            }
            let stand_in = self.stand_ins.iter().find(|(pid, _)| *pid == session);
            let leader = stand_in.map_or(session, |(_, parent)| *parent);
            if !self.descends(leader, orphan.ppid) {
                return Err(format!(
                    "process {} is in session {session}, whose leader does not descend from its parent {parent}",
                    orphan.pid
                ));
            }
            self.birth_by_helper(orphan, session, session);
        }
        let stand_ins = self.stand_ins.iter();
        self.steps.extend(stand_ins.map(|&(pid, parent)| Step::End { pid, parent }));
        Ok(())
    }

    /// Whether a process is another or descends from it.
    fn descends(&self, mut pid: i32, ancestor: i32) -> bool {
        loop {
            if pid == ancestor || ancestor == 0 {
                return true;
            }
            match self.beings.get(&pid) {
                Some(being) => pid = being.ppid,
                None => return false,
            }
        }
    }

    /// Puts all processes into their groups.
    fn group(&mut self) {
        let mut groups: BTreeMap<i32, Vec<&Being>> = BTreeMap::new();
        for being in self.beings.values() {
            let group = self.group_of(being);
            let is_own = self.session(being) == being.pid;
            if group != OUTSIDE && !is_own && !self.is_beyond(being, group) {
                groups.entry(group).or_default().push(being);
            }
        }
        let mut leaving = Vec::new();
        for (pgid, members) in groups {
            let leader = self.beings.get(&pgid);
            // A session's leader leads its group as well.
            let exists = leader.is_some_and(|leader| self.session(leader) == pgid)
                || self.early.contains(&pgid)
                || self.stand_ins.iter().any(|(session, _)| *session == pgid);
            let helper = (leader.is_none() && !exists).then(|| members[0].pid);
            if let Some(parent) = helper {
                self.steps.push(Step::Birth { pid: pgid, parent });
            }
            if !exists {
                self.steps.push(Step::Group { pid: pgid, pgid });
            }
            for member in members.iter().filter(|member| member.pid != pgid) {
                let step = Step::Group { pid: member.pid, pgid };
                // One that has founded a group which it does not stay in.
                if self.leads_others(member.pid) { leaving.push(step) } else { self.steps.push(step) }
            }
            self.steps.extend(helper.map(|parent| Step::End { pid: pgid, parent }));
        }
        self.steps.extend(leaving);
        self.steps.extend(self.early_helpers.iter().map(|&(pid, parent)| Step::End { pid, parent }));
    }

    /// A group has this pid's number, and the process is in another.
    fn leads_others(&self, pid: i32) -> bool {
        self.beings.values().any(|being| being.pgid == pid && being.pid != pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Step::{Birth, End, Group, Session, Subreaper};
    use ckpt_image::record::NamespaceContentsV1;

    fn being(pid: i32, ppid: i32, pgid: i32, sid: i32) -> Being {
        Being { pid, ppid, pgid, sid }
    }

    fn plan(beings: &[Being]) -> Result<Vec<Step>, String> {
        super::plan(beings, &InnerPids::default())
    }

    #[test]
    fn the_first_process_of_a_namespace_is_put_into_the_group_that_its_children_are_in() {
        let inner =
            NamespaceContentsV1::Pid { parent: None, ids: vec![(13, 1), (14, 2), (15, 3)], makers: vec![12] };
        let pids = InnerPids::of([&inner].into_iter()).unwrap();
        let beings = [
            being(10, 0, 10, 10),
            being(11, 10, 11, 10),
            being(12, 10, 11, 10),
            being(13, 12, 11, 10),
            being(14, 13, 11, 10),
            being(15, 13, 15, 10),
        ];
        let steps = super::plan(&beings, &pids).unwrap();
        let expected = [
            Birth { pid: 10, parent: 0 },
            Session { pid: 10 },
            Birth { pid: 11, parent: 10 },
            Birth { pid: 12, parent: 10 },
            Birth { pid: 13, parent: 12 },
            Group { pid: 11, pgid: 11 },
            Group { pid: 13, pgid: 11 },
            Birth { pid: 14, parent: 13 },
            Birth { pid: 15, parent: 13 },
            Group { pid: 12, pgid: 11 },
            Group { pid: 15, pgid: 15 },
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn children_of_a_program_in_the_shells_session() {
        let steps = plan(&[being(10, 0, 7, 5), being(11, 10, 7, 5), being(12, 11, 12, 5)]).unwrap();
        let births = [
            Birth { pid: 10, parent: 0 },
            Birth { pid: 11, parent: 10 },
            Birth { pid: 12, parent: 11 },
            Group { pid: 12, pgid: 12 },
        ];
        assert_eq!(steps, births);
    }

    #[test]
    fn a_child_that_stayed_in_the_session_that_its_parent_left_is_born_first() {
        let steps = plan(&[being(10, 0, 10, 5), being(11, 10, 11, 11), being(12, 11, 10, 5)]).unwrap();
        let expected = [
            Birth { pid: 10, parent: 0 },
            Birth { pid: 11, parent: 10 },
            Birth { pid: 12, parent: 11 },
            Session { pid: 11 },
            Group { pid: 10, pgid: 10 },
            Group { pid: 12, pgid: 10 },
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn an_orphan_of_a_session_without_leader_comes_by_helpers() {
        let steps = plan(&[being(10, 0, 10, 10), being(12, 10, 11, 11)]).unwrap();
        let expected = [
            Birth { pid: 10, parent: 0 },
            Session { pid: 10 },
            Birth { pid: 11, parent: 10 },
            Session { pid: 11 },
            Subreaper { pid: 10, on: true },
            Birth { pid: -1, parent: 11 },
            Birth { pid: 12, parent: -1 },
            End { pid: -1, parent: 11 },
            Subreaper { pid: 10, on: false },
            End { pid: 11, parent: 10 },
        ];
        assert_eq!(steps[..10], expected);
    }

    #[test]
    fn a_pipeline_whose_first_process_has_ended() {
        let steps = plan(&[being(10, 0, 10, 10), being(12, 10, 11, 10), being(13, 10, 11, 10)]).unwrap();
        let groups = [
            Birth { pid: 11, parent: 12 },
            Group { pid: 11, pgid: 11 },
            Group { pid: 12, pgid: 11 },
            Group { pid: 13, pgid: 11 },
            End { pid: 11, parent: 12 },
        ];
        assert_eq!(steps[4..], groups);
    }

    #[test]
    fn what_no_process_of_the_job_has_adopted_comes_by_helpers() {
        // In the session outside, a daemon, and one in the session of a daemon that has ended.
        let strays = [being(12, 0, 10, 5), being(13, 0, 13, 13), being(15, 0, 14, 14)];
        let steps = plan(&[&[being(10, 0, 10, 5)], &strays[..]].concat()).unwrap();
        let expected = [
            Birth { pid: 10, parent: 0 },
            Birth { pid: -1, parent: 10 },
            Birth { pid: 12, parent: -1 },
            End { pid: -1, parent: 10 },
            Birth { pid: -2, parent: 10 },
            Birth { pid: 13, parent: -2 },
            End { pid: -2, parent: 10 },
            Session { pid: 13 },
            Birth { pid: 14, parent: 10 },
            Session { pid: 14 },
            Birth { pid: -3, parent: 14 },
            Birth { pid: 15, parent: -3 },
            End { pid: -3, parent: 14 },
            End { pid: 14, parent: 10 },
            Group { pid: 10, pgid: 10 },
            Group { pid: 12, pgid: 10 },
            Group { pid: 15, pgid: 14 },
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_parent_that_is_not_there_is_told() {
        assert!(plan(&[being(10, 0, 10, 10), being(12, 99, 12, 12)]).unwrap_err().contains("99"));
    }
}
