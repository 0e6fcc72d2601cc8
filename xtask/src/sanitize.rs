//! The kernels' tests under AddressSanitizer (what is read and written lies where it should) and ThreadSanitizer (nothing is
//! written by one thread while another looks), on the portable paths, which they can follow, and on the pool.
//!
//! The compiler's sanitizers are behind a switch that is not stable; it is set for these runs alone, with a target directory of
//! their own. ThreadSanitizer sees the standard library only from outside, so what it says of that is left out.

use anyhow::{Context, bail};

use crate::process::{root, target_dir};

/// A sanitizer, and tests that it is run over: all, or those whose names hold one of these.
const RUNS: [(&str, &[&str]); 2] = [("address", &[]), ("thread", &["pool", "packed", "product"])];

pub(crate) fn run() -> anyhow::Result<()> {
    for (sanitizer, tests) in RUNS {
        eprintln!("-- {sanitizer} sanitizer");
        let mut command = std::process::Command::new("cargo");
        command
            .args(["test", "--package", "parlor-kernels", "--test", "it", "--target", TARGET])
            .arg("--target-dir")
            .arg(target_dir().join("sanitize").join(sanitizer))
            .arg("--")
            .args(tests)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", format!("-Zsanitizer={sanitizer} -Cunsafe-allow-abi-mismatch=sanitizer"))
            .env("PARLOR_ISA", "portable")
            .env("PROPTEST_CASES", "8")
            .current_dir(root());
        if !command.status().context("cannot start cargo")?.success() {
            bail!("the {sanitizer} sanitizer found something");
        }
    }
    Ok(())
}

const TARGET: &str = "x86_64-unknown-linux-gnu";
