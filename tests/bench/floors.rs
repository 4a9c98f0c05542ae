//! What the machine itself takes for the steps that checkpoints are made of: no checkpoint can be faster.
use crate::subject::compiled;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Measures them; `dir` has room for a file of 1 GiB.
pub(crate) fn measure(dir: &Path) -> BTreeMap<String, f64> {
    let output = Command::new(compiled("floors")).arg(dir).output().expect("the program of floors");
    assert!(output.status.success(), "floors: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}
