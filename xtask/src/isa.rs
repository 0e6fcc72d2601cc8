//! The tests of the kernels and of the model once more on other instruction sets than the machine's widest, which the tests
//! before have used: the same programs, with another environment. Quick: the portable path alone, and the kernels alone.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use parlor_kernels::cpu::isa::Isa;
use serde_json::Value;

use crate::depth::Depth;
use crate::process::root;

/// Packages whose tests read `PARLOR_ISA`.
const PACKAGES: [&str; 2] = ["parlor-kernels", "parlor-model"];

pub(crate) fn run(depth: Depth) -> anyhow::Result<()> {
    let tests = tests()?;
    let packages = if depth == Depth::Full { tests.len() } else { 1 };
    for isa in Isa::available().iter().rev().skip(1) {
        if depth == Depth::Quick && *isa != Isa::Portable {
            continue;
        }
        for (directory, program) in &tests[..packages] {
            let name = directory.file_name().unwrap_or_default().display();
            eprintln!("-- {name} on {}", isa.name());
            // Where cargo would run it.
            let status = Command::new(program)
                .env("PARLOR_ISA", isa.name())
                .current_dir(directory)
                .status()
                .with_context(|| format!("cannot start {}", program.display()))?;
            if !status.success() {
                bail!("the tests of {name} fail on {}", isa.name());
            }
        }
    }
    Ok(())
}

/// The test programs, each with its package's directory. Built with the whole workspace, as the tests before: alone, a package
/// has fewer features of what it depends on, and all of that would be compiled again.
fn tests() -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let output = Command::new("cargo")
        .args(["test", "--workspace", "--release", "--no-run", "--message-format=json"])
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "the tests are not built");
    let mut found = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: Value = serde_json::from_str(line)?;
        let (Some(program), Some(manifest)) =
            (message["executable"].as_str(), message["manifest_path"].as_str())
        else {
            continue;
        };
        let directory = PathBuf::from(manifest).parent().map(PathBuf::from).unwrap_or_default();
        let named = directory.file_name().is_some_and(|name| PACKAGES.iter().any(|package| name == *package));
        if named && message["target"]["name"] == "it" {
            found.push((directory, PathBuf::from(program)));
        }
    }
    found.sort();
    ensure!(found.len() == PACKAGES.len(), "tests of {PACKAGES:?} are expected, {found:?} found");
    Ok(found)
}
