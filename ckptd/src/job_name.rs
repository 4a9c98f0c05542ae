//! Names of jobs.
use crate::failure::{Failure, Outcome};

/// Longest name, in bytes.
const LONGEST: usize = 64;

/// Checks a name that the user gave.
///
/// # Errors
/// Wrong usage, when it holds anything but letters, digits, `.`, `_` and `-`, or starts with one of the last three.
pub(crate) fn check(name: &str) -> Outcome<()> {
    if !name.is_empty() && sanitized(name) == name {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Failure::usage(format!("{shown:?} cannot be a job's name")).remedy(format!(
        "a name has 1 to {LONGEST} letters, digits, dots, underscores and hyphens, and starts with a letter or digit"
    )))
}

/// A name made of what is at hand: a command or a process name.
pub(crate) fn derived(from: &str) -> String {
    let base = from.rsplit('/').next().unwrap_or(from);
    let name = sanitized(base);
    if name.is_empty() { "job".into() } else { name }
}

/// `name`, or the first of `name-2`, `name-3`… that is not taken.
pub(crate) fn unique(name: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.into();
    }
    (2u64..)
        .map(|number| {
            let suffix = format!("-{number}");
            // Sanitised names are ASCII, so that any byte is a boundary.
            let stem = &name[..name.len().min(LONGEST - suffix.len())];
            format!("{stem}{suffix}")
        })
        .find(|candidate| !taken(candidate))
        .unwrap_or_else(|| name.into())
}

fn sanitized(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let mapped: String = name.chars().map(plain).collect();
    let started = mapped.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    started[..started.len().min(LONGEST)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_commands() {
        for (from, name) in [
            ("/usr/bin/redis-server", "redis-server"),
            ("./my app", "my-app"),
            ("-weird", "weird"),
            ("日本", "job"),
            ("", "job"),
            ("..", "job"),
            ("a/", "job"),
        ] {
            assert_eq!(derived(from), name, "{from}");
        }
        assert_eq!(derived(&"x".repeat(200)).len(), LONGEST);
    }

    #[test]
    fn names_from_users() {
        for good in ["web", "web-2", "a.b_c", "7"] {
            check(good).unwrap();
        }
        for bad in ["", "a/b", "-x", ".x", "a b", "ä", &"x".repeat(65)] {
            assert_eq!(check(bad).unwrap_err().code, 2, "{bad}");
        }
    }

    #[test]
    fn taken_names_get_a_number() {
        let taken = ["web", "web-2"];
        assert_eq!(unique("web", |name| taken.contains(&name)), "web-3");
        assert_eq!(unique("db", |name| taken.contains(&name)), "db");
        let long = "x".repeat(LONGEST);
        let second = unique(&long, |name| name == long);
        assert_eq!(second.len(), LONGEST);
        check(&second).unwrap();
    }
}
