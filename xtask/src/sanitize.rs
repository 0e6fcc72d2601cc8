//! The kernels' tests under AddressSanitizer (what is read and written lies where it should) and ThreadSanitizer (nothing is
//! written by one thread while another looks), on the portable paths, those of 512 bits where the machine has them, and the pool.
//!
//! The compiler's sanitizers are behind a switch that is not stable; it is set for these runs alone, with a target directory of
//! their own. The standard library is not compiled for ThreadSanitizer, which therefore does not see that its locks order
//! what they guard: reports whose stack goes through them are left out ([`NOT_SEEN`]). The pool's own order is made of atomics, which it
//! sees.

use anyhow::{Context, bail};
use parlor_kernels::cpu::isa::Isa;

use crate::process::{root, target_dir};

/// A sanitizer, the instruction set that is used, and the tests that it is run over: all, or those whose names hold one of these.
const RUNS: [(&str, Isa, &[&str]); 3] = [
    ("address", Isa::Portable, &[]),
    ("address", Isa::Avx512, &[]),
    ("thread", Isa::Portable, &["pool", "prepacked", "gemm"]),
];

/// Functions of others whose order ThreadSanitizer cannot see: initialisation under a lock, reference counts, the test harness's
/// channel, and rayon's.
const NOT_SEEN: &str = "race:std::sync::once
race:alloc::sync::Arc
race:std::thread::lifecycle::Packet
race:rayon_core
race:crossbeam_epoch
race:test::event
";

pub(crate) fn run() -> anyhow::Result<()> {
    if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        eprintln!("-- sanitizers: left out, they are run on Linux on x86-64");
        return Ok(());
    }
    let suppressions = target_dir().join("sanitize/suppressions.txt");
    std::fs::create_dir_all(target_dir().join("sanitize"))?;
    std::fs::write(&suppressions, NOT_SEEN)?;
    for (sanitizer, isa, tests) in RUNS {
        if !Isa::available().contains(&isa) {
            eprintln!("-- {sanitizer} sanitizer, {}: left out, this machine has none", isa.name());
            continue;
        }
        eprintln!("-- {sanitizer} sanitizer, {}", isa.name());
        let mut command = std::process::Command::new("cargo");
        command
            .args(["test", "--package", "parlor-kernels", "--test", "it", "--target", TARGET])
            .arg("--target-dir")
            .arg(target_dir().join("sanitize").join(sanitizer))
            .arg("--")
            .args(tests)
            .env("TSAN_OPTIONS", format!("suppressions={}", suppressions.display()))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", format!("-Zsanitizer={sanitizer} -Cunsafe-allow-abi-mismatch=sanitizer"))
            .env("PARLOR_ISA", isa.name())
            .env("PROPTEST_CASES", "8")
            .current_dir(root());
        if !command.status().context("cannot start cargo")?.success() {
            bail!("the {sanitizer} sanitizer found something");
        }
    }
    Ok(())
}

const TARGET: &str = "x86_64-unknown-linux-gnu";
