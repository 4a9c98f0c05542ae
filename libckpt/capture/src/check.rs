//! Whether a process can be saved as it is, told without stopping it.
use crate::error::CaptureError;
use crate::namespaces::Namespaces;
use crate::orphans::Orphans;
use crate::{preflight, tree};

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Finding {
    /// Nothing stands in the way here.
    pub ok: bool,
    /// What was looked at, and what was found.
    pub what: String,
    /// What the user can do.
    pub remedy: Option<String>,
}

/// Looks at the job whose root is process `pid` and tells what would keep it from being saved. It runs on all the while. This process is in
/// the `namespaces` that it has for itself.
#[must_use]
pub fn check(pid: i32, namespaces: &Namespaces) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = preflight::check_process(pid) {
        return vec![Finding { ok: false, what: error.to_string(), remedy: None }];
    }
    findings.push(Finding { ok: true, what: format!("pid {pid} may be seized"), remedy: None });
    findings.extend(preflight::check_inside(pid, namespaces).err().map(finding));
    // Whose keeper there is, the daemon knows; nothing of a job depends on it here.
    let orphans = Orphans::default();
    match preflight::unsupported_in_job(pid, &orphans) {
        Ok(errors) => findings.extend(errors.into_iter().map(finding)),
        Err(error) => findings.push(finding(error)),
    }
    let members = tree::members(pid, &orphans);
    let files = crate::files::check(&members);
    findings.extend(files.errors.into_iter().map(finding));
    findings.extend(files.remarks.into_iter().map(|what| Finding { ok: true, what, remedy: None }));
    for member in &members {
        findings.extend(crate::vma::check(*member).into_iter().map(finding));
    }
    match crate::cgroups::check(&members, &namespaces.cgroups) {
        Ok(errors) => findings.extend(errors.into_iter().map(finding)),
        Err(error) => findings.push(finding(error)),
    }
    if findings.iter().all(|finding| finding.ok) {
        let what = match members.len() {
            1 => format!("pid {pid} can be saved as it is"),
            count => format!("pid {pid} and its {} descendants can be saved as they are", count - 1),
        };
        findings.push(Finding { ok: true, what, remedy: None });
    }
    findings
}

fn finding(error: CaptureError) -> Finding {
    match error {
        CaptureError::Unsupported { pid, object, reason, remedy } => Finding {
            ok: false,
            what: format!("pid {pid}: {object} cannot be saved: {reason}"),
            remedy: Some(remedy),
        },
        error => Finding { ok: false, what: error.to_string(), remedy: None },
    }
}
