//! The checks, in the order in which mistakes are cheapest to find, and which of them run when.
//!
//! `cargo xtask test` runs the quick ones; `--all` runs every one in full, as before a release; `--touched` (CI) runs the quick ones,
//! and in full those that guard a path that has changed since the commit at which `--all` last passed (`.ci/verified`).

use std::process::Command;
use std::time::Instant;

use anyhow::Context;

use crate::depth::Depth;
use crate::process::{cargo, cargo_with, root};

/// Which checks run in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// None.
    Quick,
    /// Those whose guarded paths have changed.
    Touched,
    /// Every one.
    All,
}

struct Check {
    name: &'static str,
    run: fn(Depth) -> anyhow::Result<()>,
    /// Whether there is a quick form.
    quick: bool,
    /// A change below one of these calls for the full form.
    guards: &'static [&'static str],
}

const KERNELS: &[&str] = &["crates/parlor-kernels"];

const CHECKS: &[Check] = &[
    Check { name: "format", run: |_| cargo(&["fmt", "--all", "--check"]), quick: true, guards: &[] },
    Check { name: "laws of the house", run: |_| crate::tidy::run(), quick: true, guards: &[] },
    // The release profile throughout, so that build scripts and macros are compiled once.
    Check {
        name: "lints",
        run: |_| cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        quick: true,
        guards: &[],
    },
    Check {
        name: "tests",
        run: tests,
        quick: true,
        guards: &["crates/parlor-train", "crates/parlor", "recipes"],
    },
    Check { name: "tests on other instruction sets", run: crate::isa::run, quick: true, guards: KERNELS },
    Check { name: "sanitizers", run: |_| crate::sanitize::run(), quick: false, guards: KERNELS },
    Check { name: "aarch64, emulated", run: |_| crate::emulate::run(), quick: false, guards: KERNELS },
    Check {
        name: "release build",
        run: |_| cargo(&["build", "--release", "--package", "parlor"]),
        quick: true,
        guards: &[],
    },
    Check { name: "quickstart", run: |_| crate::quickstart::run(), quick: true, guards: &[] },
    Check { name: "README commands", run: |_| crate::readme::run(), quick: true, guards: &[] },
    Check {
        name: "ranks over MPI",
        run: |_| crate::ranks::run(),
        quick: false,
        guards: &["crates/parlor-train/src/distributed", "crates/parlor/src/ranks.rs", "xtask/src/ranks.rs"],
    },
    Check { name: "third-party readers", run: |_| crate::readers::run_all(), quick: true, guards: &[] },
];

/// Where the commit at which every check last passed in full is kept.
const VERIFIED: &str = ".ci/verified";

/// Runs the checks; stops at the first that fails.
pub(crate) fn run(scope: Scope) -> anyhow::Result<()> {
    let changed = match scope {
        Scope::Touched => changed_paths(),
        Scope::Quick | Scope::All => Some(Vec::new()),
    };
    let mut passed = 0;
    for (index, check) in CHECKS.iter().enumerate() {
        let depth = depth(check, scope, changed.as_deref());
        if depth == Depth::Quick && !check.quick {
            eprintln!("== {}/{} {}: left to `cargo xtask test --all`", index + 1, CHECKS.len(), check.name);
            continue;
        }
        eprintln!("== {}/{} {} ({depth:?})", index + 1, CHECKS.len(), check.name);
        let start = Instant::now();
        (check.run)(depth)?;
        eprintln!("== {}: ok, {:.0} s", check.name, start.elapsed().as_secs_f64());
        passed += 1;
    }
    if scope == Scope::All {
        note_verified()?;
    }
    eprintln!("== {passed} checks passed, {} left out", CHECKS.len() - passed);
    Ok(())
}

/// How much of `check` runs, given what has changed (`None`: not known, so anything may have).
fn depth(check: &Check, scope: Scope, changed: Option<&[String]>) -> Depth {
    let touched = || {
        changed.is_none_or(|changed| {
            changed.iter().any(|path| check.guards.iter().any(|guard| is_below(path, guard)))
        })
    };
    match scope {
        Scope::All => Depth::Full,
        Scope::Touched if touched() => Depth::Full,
        Scope::Touched | Scope::Quick => Depth::Quick,
    }
}

fn is_below(path: &str, guard: &str) -> bool {
    path.strip_prefix(guard).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn tests(depth: Depth) -> anyhow::Result<()> {
    let all: &[_] = if depth == Depth::Full { &[("PARLOR_TESTS", "all")] } else { &[] };
    cargo_with(&["test", "--workspace", "--release"], all)
}

/// What has changed since the commit in [`VERIFIED`]; `None` where that is not known.
fn changed_paths() -> Option<Vec<String>> {
    let base = std::fs::read_to_string(root().join(VERIFIED)).ok()?;
    git(&["diff", "--name-only", base.trim(), "HEAD"])
        .map(|paths| paths.lines().map(str::to_owned).collect())
        .inspect_err(|error| eprintln!("-- {VERIFIED}: {error:#}; every check runs in full"))
        .ok()
}

/// Keeps the commit that passed, if it is what was checked.
fn note_verified() -> anyhow::Result<()> {
    if git(&["status", "--porcelain", "--untracked-files=no"])?.trim().is_empty() {
        std::fs::write(root().join(VERIFIED), git(&["rev-parse", "HEAD"])?)?;
        eprintln!("-- {VERIFIED} names this commit; commit the file");
    } else {
        eprintln!("-- {VERIFIED} stays: there are changes that no commit has");
    }
    Ok(())
}

fn git(arguments: &[&str]) -> anyhow::Result<String> {
    let output =
        Command::new("git").args(arguments).current_dir(root()).output().context("cannot start git")?;
    anyhow::ensure!(
        output.status.success(),
        "`git {}`: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str) -> &'static Check {
        CHECKS.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}"))
    }

    #[test]
    fn a_change_of_the_kernels_calls_for_the_sanitizers_and_another_does_not() {
        let kernels = ["crates/parlor-kernels/src/lib.rs".to_owned()];
        let near = ["crates/parlor-kernels-notes.md".to_owned(), "README.md".to_owned()];
        let sanitizers = check("sanitizers");
        assert_eq!(depth(sanitizers, Scope::Touched, Some(&kernels)), Depth::Full);
        assert_eq!(depth(sanitizers, Scope::Touched, Some(&near)), Depth::Quick);
        assert_eq!(depth(sanitizers, Scope::Quick, Some(&kernels)), Depth::Quick);
        assert_eq!(depth(sanitizers, Scope::Touched, None), Depth::Full);
        assert_eq!(depth(check("format"), Scope::All, Some(&[])), Depth::Full);
    }

    #[test]
    fn every_guarded_path_is_there() {
        for guard in CHECKS.iter().flat_map(|check| check.guards) {
            assert!(root().join(guard).exists(), "{guard} guards nothing");
        }
    }
}
