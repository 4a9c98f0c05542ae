//! The `ckpt` command as a user runs it.
use serde_json::Value;
use std::process::{Command, Output};

/// One run of `ckpt` that has ended.
#[derive(Debug)]
pub struct Ran {
    arguments: String,
    output: Output,
}

impl Ran {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Self {
        let arguments = command.get_args().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let output = command.output().unwrap_or_else(|error| {
            panic!("{}: {error}; build first: cargo build --workspace", command.get_program().display())
        });
        Ran { arguments, output }
    }

    /// Its exit status; 128+N when signal N ended it.
    #[must_use]
    pub fn status(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.output.status.code().or_else(|| self.output.status.signal().map(|n| 128 + n)).unwrap_or(-1)
    }

    /// Its standard output.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Its standard error.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Asserts that it did what was asked, and returns its standard output without the last newline.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn done(&self) -> String {
        assert_eq!(self.status(), 0, "ckpt {}: {self}", self.arguments);
        self.stdout().trim_end_matches('\n').to_owned()
    }

    /// Asserts that it did what was asked, and returns the object on its standard output.
    ///
    /// # Panics
    /// When it did not, or when that is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        let stdout = self.done();
        serde_json::from_str(&stdout)
            .unwrap_or_else(|error| panic!("ckpt {}: {error}: {stdout}", self.arguments))
    }

    /// Asserts that it refused with `status` and one message that names each of `words`; returns the message.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn refused(&self, status: i32, words: &[&str]) -> String {
        assert_eq!(self.status(), status, "ckpt {}: {self}", self.arguments);
        let message = self.stderr();
        assert!(!message.trim().is_empty(), "ckpt {}: refused without a word", self.arguments);
        assert!(!message.contains("panicked"), "ckpt {}: {message}", self.arguments);
        for word in words {
            let found = message.to_lowercase().contains(&word.to_lowercase());
            assert!(found, "ckpt {}: the message does not name {word:?}: {message}", self.arguments);
        }
        message
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit status {}\nstdout: {}\nstderr: {}", self.status(), self.stdout(), self.stderr())
    }
}
