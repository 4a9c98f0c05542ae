//! `ckpt verify`
use super::Context;
use super::print;
use super::progress::Progress;
use crate::failure::{NOT_DONE, Outcome};
use ckpt_image::Store;
use indicatif::HumanBytes;

/// Reads and checks every byte of an image, or of the whole store. Exit status 1 when a file is bad.
pub(crate) fn verify(context: &Context, target: Option<&str>) -> Outcome<u8> {
    let store = Store::open(&context.store)?;
    let id = target.map(|target| super::resolve(&store, target)).transpose()?;
    let report = {
        let _progress = Progress::spinner(context, "reading and checking every byte");
        store.verify(id.as_ref())?
    };
    if context.json {
        let bad: Vec<_> = report
            .bad
            .iter()
            .map(|bad| serde_json::json!({ "file": bad.path, "error": bad.error.to_string() }))
            .collect();
        print::line(
            serde_json::json!({
                "good": report.is_good(),
                "checkpoints": report.checkpoints,
                "files": report.files,
                "bytes": report.bytes,
                "bad": bad,
            })
            .to_string(),
        );
    } else if report.is_good() && !context.quiet {
        print::line(format!(
            "good: {} checkpoints, {} files, {}",
            report.checkpoints,
            report.files,
            HumanBytes(report.bytes)
        ));
    }
    for bad in &report.bad {
        eprintln!("ckpt: {}", bad.error);
    }
    Ok(if report.is_good() { 0 } else { NOT_DONE })
}
