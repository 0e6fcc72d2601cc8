//! The tests of the kernels and of the model once more on each instruction set that is not the machine's widest, which the
//! tests before have used.

use anyhow::{Context, bail};
use parlor_kernels::isa::Isa;

use crate::process::root;

/// Packages whose tests read `PARLOR_ISA`.
const PACKAGES: [&str; 2] = ["parlor-kernels", "parlor-model"];

pub(crate) fn run() -> anyhow::Result<()> {
    let there = Isa::there();
    for isa in there.iter().rev().skip(1) {
        for package in PACKAGES {
            eprintln!("-- {package} on {}", isa.name());
            let status = std::process::Command::new("cargo")
                .args(["test", "--release", "--package", package, "--test", "it"])
                .env("PARLOR_ISA", isa.name())
                .current_dir(root())
                .status()
                .context("cannot start cargo")?;
            if !status.success() {
                bail!("the tests of {package} fail on {}", isa.name());
            }
        }
    }
    Ok(())
}
