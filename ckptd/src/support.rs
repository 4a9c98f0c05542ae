//! What a checkpoint keeps of each kind of kernel object: the table that `docs/support.md` is made of, and `ckpt check --support` prints.
//! Whoever changes what capture or restore does with an object changes its row here, then writes the page again (see [`page`]).
mod descriptors;
mod memory;
mod process;
mod sockets;
mod terminals;
mod threads;

use serde::Serialize;

/// What ckpt does with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It comes back as it was.
    Saved,
    /// It comes back in another state.
    Changed,
    /// The job is not saved while it has it.
    Refused,
    /// It does not come back.
    LeftOut,
    /// The row is a remark.
    Note,
}

impl Answer {
    const fn text(self) -> &'static str {
        match self {
            Self::Saved => "saved",
            Self::Changed => "changed",
            Self::Refused => "refused",
            Self::LeftOut => "left out",
            Self::Note => "",
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Row {
    what: &'static str,
    answer: Answer,
    remarks: &'static str,
    criu: &'static str,
    dmtcp: &'static str,
    /// The records, and the variants of their enums, that hold it.
    holds: &'static [&'static str],
}

/// A row, of which it is not known what others do.
const fn row(what: &'static str, answer: Answer, remarks: &'static str) -> Row {
    Row { what, answer, remarks, criu: "—", dmtcp: "—", holds: &[] }
}

impl Row {
    /// What CRIU 4.2 does.
    const fn criu(self, criu: &'static str) -> Self {
        Self { criu, ..self }
    }

    /// What DMTCP 5.0 does.
    const fn dmtcp(self, dmtcp: &'static str) -> Self {
        Self { dmtcp, ..self }
    }

    /// The records and variants that hold it: each must be named by a row.
    const fn holds(self, holds: &'static [&'static str]) -> Self {
        Self { holds, ..self }
    }
}

const SECTIONS: [(&str, &[Row]); 6] = [
    ("Threads", threads::ROWS),
    ("The process", process::ROWS),
    ("Memory", memory::ROWS),
    ("Descriptors", descriptors::ROWS),
    ("Sockets", sockets::ROWS),
    ("Terminals", terminals::ROWS),
];

const HEAD: &str = "\
<!-- Made from ckptd/src/support/*.rs: edit those, then run `cargo run -p ckptd -- check --support > docs/support.md`. A test compares. -->
# What is supported

This page says what a checkpoint keeps. Whoever adds a kind of kernel object adds its row to the table that this page is made of. **saved**: comes back as it was.
**refused**: `ckpt save` exits with status 1 and names the object; the program runs on. **changed**: comes back in another state, which the remarks say. Most lines
have a subject of the same name in tests/subjects.

The columns on CRIU 4.2 and DMTCP 5.0 are from reading their sources, not from running them. **with an option**: only if asked to. **lost**: there is no code that brings it
back, and no refusal. **no**: there is no code for it. **—**: not looked into.

The engine needs Linux 6.7 or later on x86-64 (`PAGEMAP_SCAN` and userfaultfd's asynchronous write-protection; `ckpt check` says what is there). As root, or with
`CAP_CHECKPOINT_RESTORE` and `CAP_SYS_PTRACE`, it does all of this. Other users save their own processes, and restore them in a user and PID namespace (with an IPC
namespace for System V objects), where they keep their users, groups and pids. For them are refused: TCP connections within the job, mapped files that are deleted and closed,
inotify watches, and processes that may not be looked into (set-user-id programs, PR_SET_DUMPABLE); unread UDP datagrams are lost, with a warning.
";

/// All rows.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    SECTIONS.iter().flat_map(|(_, rows)| *rows)
}

/// `docs/support.md`.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    for (title, rows) in SECTIONS {
        page += &format!(
            "\n## {title}\n\n| what | ckpt | CRIU 4.2 | DMTCP 5.0 | remarks |\n|---|---|---|---|---|\n"
        );
        for Row { what, answer, remarks, criu, dmtcp, .. } in rows {
            let cells = [what, answer.text(), criu, dmtcp, remarks];
            let cells = cells.map(|cell| if cell.is_empty() { " |".into() } else { format!(" {cell} |") });
            page += &format!("|{}\n", cells.concat());
        }
    }
    page + include_str!("support/conformance.md")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(path: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
    }

    fn held() -> Vec<&'static str> {
        rows().flat_map(|row| row.holds).copied().collect()
    }

    #[test]
    fn the_page_is_made_of_this_table() {
        assert!(
            read("docs/support.md") == page(),
            "docs/support.md differs: edit ckptd/src/support/, then `cargo run -p ckptd -- check --support > docs/support.md`"
        );
    }

    #[test]
    fn cells_keep_to_their_columns() {
        for row in rows() {
            for cell in [row.what, row.remarks, row.criu, row.dmtcp] {
                assert!(!cell.contains(['|', '\n']), "{cell}");
            }
            assert!(!row.what.is_empty() && !row.criu.is_empty() && !row.dmtcp.is_empty(), "{}", row.what);
        }
    }

    #[test]
    fn every_record_is_some_rows() {
        let held = held();
        for name in (1..1000).filter_map(|kind| ckpt_image::record::record_name(kind, 1)) {
            assert!(held.contains(&name), "no row of ckptd/src/support/ holds {name}");
        }
    }

    #[test]
    fn every_kind_of_open_file_and_mapping_is_some_rows() {
        let held = held();
        for (file, name) in [("fd", "FileKindV1"), ("vma", "BackingV1")] {
            let source = read(&format!("libckpt/image/src/record/{file}.rs"));
            let start = source.find(&format!("pub enum {name} {{")).unwrap();
            let body = source[start..].split("\n}").next().unwrap();
            let is_variant =
                |line: &str| line.starts_with("    ") && line[4..].starts_with(char::is_uppercase);
            let variants = body.lines().filter(|line| is_variant(line)).map(|line| {
                let end = line[4..].find(|c: char| !c.is_alphanumeric()).unwrap();
                format!("{name}::{}", &line[4..4 + end])
            });
            let variants: Vec<String> = variants.collect();
            assert!(variants.len() > 3, "{variants:?}");
            for variant in variants {
                assert!(held.contains(&variant.as_str()), "no row of ckptd/src/support/ holds {variant}");
            }
        }
    }
}
