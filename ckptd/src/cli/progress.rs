//! Progress on a terminal; nothing elsewhere.
use super::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// Something that takes a while. Gone from the screen when dropped.
pub(super) struct Progress(pub(super) ProgressBar);

impl Progress {
    /// Of unknown length.
    pub(super) fn spinner(context: &Context, what: &str) -> Self {
        Self::styled(context, None, what, "{spinner} {msg} {elapsed}")
    }

    /// Of bytes that pass by, `total` of them if that is known.
    pub(super) fn bytes(context: &Context, total: Option<u64>, what: &str) -> Self {
        let template = match total {
            Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}",
            None => "{spinner} {msg} {bytes} {bytes_per_sec}",
        };
        Self::styled(context, total, what, template)
    }

    fn styled(context: &Context, total: Option<u64>, what: &str, template: &str) -> Self {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        // Hidden by itself where standard error is no terminal.
        let target = if context.quiet || context.json {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        bar.set_draw_target(target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self(bar)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
