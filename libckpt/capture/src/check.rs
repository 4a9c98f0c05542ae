//! Whether a process can be saved as it is, told without stopping it.
use crate::error::CaptureError;
use crate::preflight;

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Nothing stands in the way here.
    pub ok: bool,
    /// What was looked at, and what was found.
    pub what: String,
    /// What the user can do.
    pub remedy: Option<String>,
}

/// Looks at process `pid` and tells what would keep it from being saved. It runs on all the while.
#[must_use]
pub fn check(pid: i32) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = preflight::check_process(pid) {
        return vec![Finding { ok: false, what: error.to_string(), remedy: None }];
    }
    findings.push(Finding { ok: true, what: format!("pid {pid} may be seized"), remedy: None });
    match preflight::unsupported(pid) {
        Ok(errors) => findings.extend(errors.into_iter().map(finding)),
        Err(error) => findings.push(finding(error)),
    }
    findings.extend(crate::files::check(pid).into_iter().map(finding));
    findings.extend(crate::vma::check(pid).into_iter().map(finding));
    if findings.iter().all(|finding| finding.ok) {
        findings.push(Finding { ok: true, what: format!("pid {pid} can be saved as it is"), remedy: None });
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
