//! `ckpt check`
mod kernel;

use super::Context;
use super::print;
use crate::failure::{Failure, Outcome};
use crate::inside::{self, Done};
use crate::support;
use serde::Serialize;

/// One line of the report.
#[derive(Serialize)]
struct Line {
    /// Whether it is as ckpt would like it to be.
    ok: bool,
    /// Nothing works without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Prints what a checkpoint keeps of every kind of kernel object.
pub(crate) fn support(context: &Context) {
    if context.json {
        support::rows().for_each(|row| print::line(print::json(row)));
    } else {
        print::line(support::page().trim_end());
    }
}

/// What keeps the job with this root from being saved, as seen from within its namespaces.
fn findings(pid: i32) -> Outcome<Vec<ckpt_capture::Finding>> {
    let namespaces = ckpt_capture::Namespaces::of(pid)?;
    if namespaces.is_empty() {
        return Ok(ckpt_capture::check(pid, &namespaces));
    }
    let forked = || Ok((namespaces.fork_into(pid)?, ()));
    let outcome = inside::carry_out(forked, |&()| {
        let findings = ckpt_capture::check(namespaces.inner_pid(), &namespaces);
        Ok(Done { report: findings, tracking: Vec::new(), held: None })
    })?;
    Ok(outcome.report)
}

/// Reports what is possible here, or for one process. Exit status 1 when something that is needed is missing.
pub(crate) fn check(context: &Context, pid: Option<i32>) -> Outcome<()> {
    let lines = match pid {
        None => kernel::report(),
        Some(pid) => {
            crate::target::inspect(pid)?;
            findings(pid)?
                .into_iter()
                .map(|finding| Line {
                    ok: finding.ok,
                    required: !finding.ok,
                    what: finding.what,
                    remedy: finding.remedy,
                })
                .collect()
        }
    };
    for line in &lines {
        if context.json {
            print::line(print::json(line));
            continue;
        }
        let mark = match (line.ok, line.required) {
            (true, _) => "yes",
            (false, true) => "NO ",
            (false, false) => "no ",
        };
        print::line(format!("{mark}  {}", line.what));
        if let Some(remedy) = line.remedy.as_ref().filter(|_| !line.ok) {
            print::line(format!("     {remedy}"));
        }
    }
    let mut missing = lines.into_iter().filter(|line| !line.ok && line.required);
    let Some(first) = missing.next() else {
        if !context.json && !context.quiet {
            print::line(match pid {
                None => "programs can be saved and restored here".to_owned(),
                Some(pid) => format!("pid {pid} can be saved as it is"),
            });
        }
        return Ok(());
    };
    let message = match missing.count() {
        0 => first.what,
        more => format!("{} (and {more} more, all listed above)", first.what),
    };
    Err(Failure { remedy: first.remedy, ..Failure::new(message) })
}
