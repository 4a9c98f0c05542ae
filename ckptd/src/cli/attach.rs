//! `ckpt attach`
use super::args::Attach;
use super::{Context, later, print};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::protocol::{Answer, Register, Request, Source};
use crate::{every, job_name, target};

/// Protects a running process tree; prints the job's name.
pub(crate) fn attach(context: &Context, options: &Attach) -> Outcome<()> {
    let protection = &options.protection;
    if !protection.data.is_empty() {
        return Err(later("--data"));
    }
    protection.name.as_deref().map(job_name::check).transpose()?;
    protection.every.as_deref().map(every::parse).transpose()?;
    protection.kept.parse()?;
    // Also asked here, so that a pid that makes no sense starts no daemon.
    target::inspect(options.pid)?;
    let request = Request::Register(Register {
        pid: Some(options.pid),
        name: protection.name.clone(),
        default_name: None,
        every: protection.every.clone(),
        source: Source::Attach,
        tracked: Vec::new(),
        since: None,
        keeps: false,
        keep: protection.kept.keep.map(|n| n.to_string()),
        keep_for: protection.kept.keep_for.clone(),
        filling: false,
    });
    match Client::of_store(&context.store)?.call(&request, &[])? {
        Answer::Registered { job } if context.json => {
            print::line(serde_json::json!({ "job": job, "pid": options.pid }).to_string());
        }
        Answer::Registered { job } => print::line(job),
        Answer::Covered { job } => {
            return Err(Failure::new(format!(
                "{} is part of job {job} already",
                target::stat_name(options.pid)
            ))
            .remedy(format!("it is saved with that job: ckpt save {job}")));
        }
        _ => return Err(Failure::new("the daemon gave an answer to another question")),
    }
    Ok(())
}
