//! Processes and threads go to their groups as they are born, so that what they use is counted there.
use super::{Cgroups, Place};
use std::collections::HashMap;

/// Who of the job is where.
#[derive(Debug)]
pub(crate) struct Seats<'a> {
    cgroups: &'a Cgroups,
    /// The group of each thread, by place.
    at: HashMap<i32, Vec<Vec<u8>>>,
    /// Those that go to their groups when their work for us is done: place, process and thread.
    later: Vec<(usize, i32, i32)>,
}

impl<'a> Seats<'a> {
    /// Of a job that has yet to be born.
    pub(crate) fn new(cgroups: &'a Cgroups) -> Self {
        let mut seats = Self { cgroups, at: HashMap::new(), later: Vec::new() };
        // We are the job's parent.
        let ours = seats.cgroups.places.iter().map(|place| place.ours.clone()).collect();
        seats.at.insert(0, ours);
        seats
    }

    /// What is set for groups that were made, as far as it must be there before anybody is in them.
    pub(crate) fn begin(&self) {
        self.cgroups.places.iter().for_each(Place::delegate);
    }

    /// Moves process `pid`, which was just born to process `parent` (0: us), where its first thread was.
    pub(crate) fn seat_process(&mut self, pid: i32, parent: i32) {
        self.seat(pid, pid, parent);
    }

    /// Moves thread `tid`, which was just born to the first one of process `pid`.
    pub(crate) fn seat_thread(&mut self, pid: i32, tid: i32) {
        self.seat(pid, tid, pid);
    }

    fn seat(&mut self, pid: i32, tid: i32, maker: i32) {
        let mut at = self.at.get(&maker).cloned().unwrap_or_default();
        let mut later = Vec::new();
        for (number, (place, at)) in self.cgroups.places.iter().zip(&mut at).enumerate() {
            let Some(path) = place.wanted(pid, tid) else { continue };
            let Some(seat) = place.seats.get(path).filter(|_| path != *at) else { continue };
            if seat.last {
                later.push((number, pid, tid));
            } else if place.sit(path, pid, tid) {
                path.clone_into(at);
            }
        }
        self.later.extend(later);
        self.at.insert(tid, at);
    }

    /// All processes are done but for being let go: what is set for groups that were made is set, and what was frozen is frozen.
    pub(crate) fn finish(self) {
        self.cgroups.places.iter().for_each(Place::set);
        for (number, pid, tid) in self.later {
            let place = &self.cgroups.places[number];
            if let Some(path) = place.wanted(pid, tid) {
                place.sit(path, pid, tid);
            }
        }
        self.cgroups.places.iter().for_each(Place::freeze);
    }
}

impl Place {
    fn wanted(&self, pid: i32, tid: i32) -> Option<&[u8]> {
        let members = self.record.members.iter().find(|members| members.threads.contains(&(pid, tid)))?;
        Some(&members.path)
    }

    /// Moves a process, by its first thread, or another thread. Whether it could be moved: if not, it is told.
    fn sit(&self, path: &[u8], pid: i32, tid: i32) -> bool {
        let Some(seat) = self.seats.get(path) else { return false };
        let file = if pid == tid { &seat.processes } else { &seat.threads };
        match self.write(file, path, &tid.to_string()) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(pid, tid, %error, "it cannot be moved to the control group that it was in");
                false
            }
        }
    }
}
