//! Data-parallel training over MPI: the program is built with the feature `mpi` and tested under `mpirun`, with an MPI
//! library from a git-ignored environment, so that none need be installed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::process::root;
use crate::python::environment;

/// Builds and tests.
pub(crate) fn run() -> anyhow::Result<()> {
    let python = environment(".venv-mpi", "mpi.txt")?;
    let bin = python.parent().context("the environment has no directory")?.to_owned();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut path: Vec<PathBuf> = vec![bin.clone()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let (path, libclang) = (std::env::join_paths(path)?, libclang(&python)?);
    // The wheel of libclang brings no headers of its own.
    let headers = format!("-I{}", said("cc", &["-print-file-name=include"])?);
    let lints = "clippy --release --package parlor-train --features mpi -- -D warnings";
    let tests = "test --release --package parlor --features mpi --test it ranks::";
    for arguments in [lints, tests] {
        let mut command = Command::new(&cargo);
        command.args(arguments.split(' ')).current_dir(root());
        command.env("PATH", &path).env("MPICC", bin.join("mpicc"));
        command.env("LD_LIBRARY_PATH", bin.with_file_name("lib"));
        command.env("LIBCLANG_PATH", &libclang).env("BINDGEN_EXTRA_CLANG_ARGS", &headers);
        let status = command.status().with_context(|| format!("cannot start {cargo}"))?;
        if !status.success() {
            bail!("`cargo {arguments}` ended with {status}");
        }
    }
    // The program under target/release is the user's, and their machine need not have an MPI library.
    crate::process::cargo(&["build", "--release", "--package", "parlor"])
}

fn libclang(python: &std::path::Path) -> anyhow::Result<String> {
    let find = "import clang, pathlib; print(pathlib.Path(clang.__path__[0]) / 'native')";
    said(&python.display().to_string(), &["-c", find])
}

/// What a program prints.
fn said(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("cannot start {program}"))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
