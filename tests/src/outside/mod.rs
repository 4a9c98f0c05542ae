//! A process as seen from outside, without a word from it: what /proc, ptrace(2) and the kernel's queries tell.
//!
//! A view is a map from fact to value (`thread 7 comm` → `worker`), so that two views compare fact by fact, and a difference
//! reads as what it is. What differs between a process and its restored copy by nature (inode numbers of pipes, the parent's
//! pid) is left out, or replaced by what is meant to be equal (which descriptors share an object).
mod fds;
mod memory;
mod process;
mod registers;
mod threads;
mod vmas;

use crate::process::state;
use crate::tree;
use crate::wait::until_or_late;
use std::collections::BTreeMap;

/// Facts about one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    facts: BTreeMap<String, String>,
}

impl View {
    /// Everything but memory and registers, which a running program changes by itself; of the process and all its descendants.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn of(pid: i32) -> Self {
        let mut view = View::of_one(pid);
        for descendant in tree::family(pid).into_iter().skip(1) {
            let theirs = View::of_one(descendant);
            let facts =
                theirs.facts.into_iter().map(|(fact, value)| (format!("pid {descendant} {fact}"), value));
            view.facts.extend(facts);
            view.set(format!("pid {descendant} parent"), process::parent(descendant));
        }
        view
    }

    fn of_one(pid: i32) -> Self {
        let mut view = View::default();
        if state(pid) == Some('Z') {
            process::look_at_dead(&mut view, pid);
            return view;
        }
        process::look(&mut view, pid);
        vmas::look(&mut view, pid);
        fds::look(&mut view, pid);
        threads::look(&mut view, pid);
        view
    }

    /// Everything, with every page of writable memory and all registers of every thread; for a program whose threads
    /// change neither by themselves.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn with_memory(pid: i32) -> Self {
        let mut view = View::of(pid);
        let volatile = registers::look(&mut view, pid);
        memory::look(&mut view, pid, &volatile);
        view
    }

    /// How many facts it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// How many facts begin with `prefix`.
    #[must_use]
    pub fn count(&self, prefix: &str) -> usize {
        self.facts.keys().filter(|fact| fact.starts_with(prefix)).count()
    }

    fn set(&mut self, fact: impl Into<String>, value: impl Into<String>) {
        self.facts.insert(fact.into(), value.into());
    }

    /// What differs, one fact a line, without those that begin with one of `allowed`.
    #[must_use]
    pub fn differences(&self, later: &View, allowed: &[&str]) -> Vec<String> {
        let mut facts: Vec<&String> = self.facts.keys().chain(later.facts.keys()).collect();
        facts.sort();
        facts.dedup();
        let value =
            |view: &View, fact: &str| view.facts.get(fact).map_or("nothing", String::as_str).to_owned();
        facts
            .into_iter()
            .filter(|fact| !allowed.iter().any(|prefix| fact.starts_with(prefix)))
            .map(|fact| (fact, value(self, fact), value(later, fact)))
            .filter(|(_, before, after)| before != after)
            .map(|(fact, before, after)| format!("{fact}: {before} -> {after}"))
            .collect()
    }

    /// Asserts that process `pid` gets to be seen as this view has it, but for facts that begin with one of `allowed`. A thread that was let go a
    /// moment ago may not have come back to where it waits yet.
    ///
    /// # Panics
    /// When it does not, with what differs.
    #[track_caller]
    pub fn must_be_seen_of(&self, pid: i32, when: &str, allowed: &[&str]) {
        let seen = until_or_late(|| self.differences(&View::of(pid), allowed).is_empty().then_some(()));
        if seen.is_none() {
            self.must_equal(&View::of(pid), when, allowed);
        }
    }

    /// Asserts that `later` shows the same process, but for facts that begin with one of `allowed`.
    ///
    /// # Panics
    /// When it does not, with what differs.
    #[track_caller]
    pub fn must_equal(&self, later: &View, when: &str, allowed: &[&str]) {
        let differences = self.differences(later, allowed);
        let shown = differences.iter().take(40).map(|line| format!("\n  {line}")).collect::<String>();
        assert!(differences.is_empty(), "{when}: {} facts differ:{shown}", differences.len());
    }
}

/// A file of /proc/PID as text.
fn proc_text(pid: i32, file: &str) -> String {
    let path = format!("/proc/{pid}/{file}");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a link of /proc/PID names.
fn proc_link(pid: i32, link: &str) -> String {
    match std::fs::read_link(format!("/proc/{pid}/{link}")) {
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(error) => error.to_string(),
    }
}

/// Bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}
