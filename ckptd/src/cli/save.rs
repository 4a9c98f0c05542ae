//! `ckpt save`
use super::args::Save as Options;
use super::{Context, print};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::protocol::{Answer, Request, Save};
use indicatif::HumanBytes;
use std::time::Duration;

/// Takes a checkpoint; prints its id.
pub(crate) fn save(context: &Context, options: &Options) -> Outcome<()> {
    let request = Request::Save(Save {
        target: Some(options.target.clone()),
        full: options.full,
        stop: options.stop,
        tcp: options.tcp.into(),
        unix_peer: options.unix_peer.into(),
        notify: false,
    });
    let Answer::Saved(saved) = Client::of_store(&context.store)?.call(&request, &[])? else {
        return Err(Failure::new("the daemon gave an answer to another question"));
    };
    if context.json {
        print::line(print::json(&saved));
    } else {
        print::line(&saved.id);
    }
    tracing::info!(
        "{} checkpoint of {}: {} of memory, {} written, paused for {}",
        saved.kind,
        saved.job,
        HumanBytes(saved.bytes_memory),
        HumanBytes(saved.bytes_written),
        humantime::format_duration(Duration::from_micros(saved.pause_us)),
    );
    Ok(())
}
