//! The kernels' tests on aarch64, where this machine has an emulator of it: what is written for its vectors is tried on every
//! one of its paths. Says nothing of speed.
//!
//! The program is linked by what the compiler brings along and needs no library of the other system.

use anyhow::bail;

use crate::process::{root, target_dir};

const TARGET: &str = "aarch64-unknown-linux-musl";
const EMULATOR: &str = "qemu-aarch64";
/// The tests whose names hold one of these: what is written for the processor. The others are plain loops.
const TESTS: [&str; 6] = [
    "prepacked_int8",
    "prepacked_bf16",
    "non_finite_activations",
    "a_mapped_weight",
    "extreme_quants",
    "isa_choice",
];

pub(crate) fn run() -> anyhow::Result<()> {
    if std::process::Command::new(EMULATOR).arg("--version").output().is_err() {
        eprintln!(
            "-- aarch64: left out, there is no `{EMULATOR}` (Debian and Ubuntu: `apt-get install qemu-user`)"
        );
        return Ok(());
    }
    crate::process::run("rustup", &["target", "add", TARGET])?;
    let status = std::process::Command::new("cargo")
        .args([
            "test",
            "--release",
            "--package",
            "parlor-kernels",
            "--test",
            "it",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(target_dir().join("emulate"))
        .arg("--")
        .args(TESTS)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER", EMULATOR)
        .env("PROPTEST_CASES", "16")
        .current_dir(root())
        .status()?;
    if !status.success() {
        bail!("the kernels' tests fail on aarch64");
    }
    Ok(())
}
