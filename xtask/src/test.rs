//! Everything CI runs, in the order in which mistakes are cheapest to find.

use std::time::Instant;

use crate::process::cargo;

type Step = (&'static str, fn() -> anyhow::Result<()>);

const STEPS: &[Step] = &[
    ("format", || cargo(&["fmt", "--all", "--check"])),
    ("laws of the house", crate::tidy::run),
    // The release profile throughout, so that build scripts and macros are compiled once.
    ("lints", || cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])),
    ("tests", || cargo(&["test", "--workspace", "--release"])),
    ("tests on each instruction set", crate::isa::run),
    ("sanitizers", crate::sanitize::run),
    ("aarch64, emulated", crate::emulate::run),
    ("release build", || cargo(&["build", "--release", "--package", "parlor"])),
    ("quickstart", crate::quickstart::run),
    ("README commands", crate::readme::run),
    ("ranks over MPI", crate::ranks::run),
    ("third-party readers", crate::readers::run_all),
];

/// Runs every step; stops at the first that fails.
pub(crate) fn run() -> anyhow::Result<()> {
    for (index, (name, step)) in STEPS.iter().enumerate() {
        eprintln!("== {}/{} {name}", index + 1, STEPS.len());
        let start = Instant::now();
        step()?;
        eprintln!("== {name}: ok, {:.0} s", start.elapsed().as_secs_f64());
    }
    eprintln!("== all {} steps passed", STEPS.len());
    Ok(())
}
