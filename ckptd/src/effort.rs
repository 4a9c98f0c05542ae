//! `--effort`: what a save spends on making its checkpoint small.
use ckpt_image::Effort;
use clap::ValueEnum;

/// What a daemon is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum EffortChoice {
    /// Full, but light while the processors have no time to spare
    #[default]
    Auto,
    /// Find what is stored already, store small changes as deltas
    Full,
    /// Compress pages as they come
    Light,
}

impl EffortChoice {
    /// What a save is told. `scarce`: whether the processors have no time to spare.
    pub(crate) fn of_save(self, scarce: impl FnOnce() -> bool) -> Effort {
        match self {
            Self::Full => Effort::Full,
            Self::Light => Effort::Light,
            Self::Auto if scarce() => Effort::Light,
            Self::Auto => Effort::Full,
        }
    }
}
