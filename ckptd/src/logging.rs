//! What is logged, and where: always standard error, which is the log file of a daemon in the background.
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// For commands: warnings, more with each `-v`, only errors with `-q`. `CKPT_LOG` overrides both.
pub(crate) fn start_command(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        (_, 2) => "debug",
        _ => "trace",
    };
    let _ = fmt()
        .with_env_filter(filter(level))
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .try_init();
}

/// For the daemon and its workers.
pub(crate) fn start_daemon() {
    let _ = fmt().with_env_filter(filter("info")).with_writer(std::io::stderr).with_ansi(false).try_init();
}

fn filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_env("CKPT_LOG").unwrap_or_else(|_| EnvFilter::new(default))
}
