//! What went wrong, and what to do about it: the one shape in which errors reach a user.
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};

/// Exit status of a command that was not done; nothing is lost.
pub(crate) const NOT_DONE: u8 = 1;
/// Exit status of a command that was given wrongly.
pub(crate) const WRONG_USAGE: u8 = 2;

/// A refusal or an error, with its cause and (where there is one) a remedy. It also travels from daemon to client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Exit status of the command.
    pub(crate) code: u8,
    /// The object and the cause, on one line.
    pub(crate) message: String,
    /// What the user can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

/// The result of a command.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// Not done: exit status 1.
    pub(crate) fn new(message: impl Display) -> Self {
        Self { code: NOT_DONE, message: message.to_string(), remedy: None }
    }

    /// Wrong usage: exit status 2.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { code: WRONG_USAGE, message: message.to_string(), remedy: None }
    }

    /// Adds what the user can do.
    #[must_use]
    pub(crate) fn remedy(mut self, remedy: impl Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// An error with all its sources, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many errors print their source themselves.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// A message with paths as the program sees them, where they are those by which ckpt gets into another mount namespace.
fn as_seen(message: &str) -> String {
    let (mut seen, mut rest) = (String::new(), message);
    while let Some(at) = rest.find("/proc/") {
        seen.push_str(&rest[..at]);
        let path = &rest[at..];
        rest = match below_view(path) {
            Some(below) => below,
            None => {
                seen.push_str("/proc/");
                &path["/proc/".len()..]
            }
        };
    }
    seen + rest
}

/// What follows `/proc/PID/root` or `/proc/PID/fd/NUMBER` in a path.
fn below_view(path: &str) -> Option<&str> {
    fn number(text: &str) -> Option<&str> {
        let rest = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
        (rest.len() < text.len()).then_some(rest)
    }
    let own = number(path.strip_prefix("/proc/")?)?;
    let below = own.strip_prefix("/root").or_else(|| number(own.strip_prefix("/fd/")?))?;
    below.starts_with('/').then_some(below)
}

impl From<ckpt_image::StoreError> for Failure {
    fn from(error: ckpt_image::StoreError) -> Self {
        Self::new(chain(&error))
    }
}

impl From<ckpt_capture::CaptureError> for Failure {
    fn from(error: ckpt_capture::CaptureError) -> Self {
        Self::new(as_seen(&chain(&error)))
    }
}

impl From<ckpt_restore::RestoreError> for Failure {
    fn from(error: ckpt_restore::RestoreError) -> Self {
        Self::new(as_seen(&chain(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_other_mount_namespaces() {
        assert_eq!(as_seen("open on /proc/12/root/a/b: no"), "open on /a/b: no");
        assert_eq!(as_seen("/proc/12/fd/7/a and /proc/12/fd/7"), "/a and /proc/12/fd/7");
        assert_eq!(as_seen("/proc/12/rooted/x, /proc/self/fd/3/y"), "/proc/12/rooted/x, /proc/self/fd/3/y");
    }
}
