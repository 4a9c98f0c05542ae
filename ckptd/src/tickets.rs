//! Files that tell a program which saved itself (`ckpt_save()` of libckpt.so) that its checkpoint is done. It waits for a
//! file because a connection to the daemon would be part of the state that is being saved.
use crate::endpoint::Endpoint;
use crate::failure::Outcome;
use crate::protocol::Saved;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

/// Writes the file of a ticket: `y` or `n`, then the job's name and a newline.
pub(crate) fn tell(endpoint: &Endpoint, ticket: u64, job: &str, outcome: &Outcome<Saved>) {
    let path = endpoint.ticket(&ticket.to_string());
    let new = endpoint.ticket("new");
    let verdict = if outcome.is_ok() { 'y' } else { 'n' };
    let write = || -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        writeln!(file, "{verdict}{job}")?;
        fs::rename(&new, &path)
    };
    if let Err(error) = write() {
        tracing::error!("cannot write {}: {error}", path.display());
    }
}

/// Removes the files of a job that is about to be restored, or of all jobs: what waits in a restored program is to learn
/// that it was restored.
pub(crate) fn forget(endpoint: &Endpoint, job: Option<&str>) {
    for path in endpoint.tickets() {
        let of_job = |job: &str| {
            fs::read_to_string(&path).is_ok_and(|text| text.get(1..) == Some(&format!("{job}\n")))
        };
        if job.is_none_or(of_job) {
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn tickets_come_and_go() {
        let temp = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::in_dir(temp.path());
        tell(&endpoint, 1, "a", &Err(Failure::new("x")));
        tell(&endpoint, 2, "ab", &Err(Failure::new("x")));
        assert_eq!(fs::read_to_string(endpoint.ticket("1")).unwrap(), "na\n");
        forget(&endpoint, Some("a"));
        assert!(!endpoint.ticket("1").exists() && endpoint.ticket("2").exists());
        forget(&endpoint, None);
        assert!(!endpoint.ticket("2").exists());
    }
}
